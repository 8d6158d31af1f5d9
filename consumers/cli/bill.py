"""`tierline bill check`: a provider's invoice beside the ledger, line by line."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from consumers import clock
from consumers.amounts import cell_text, counted
from consumers.cli.common import (
    FAILED,
    OK,
    AsJson,
    KafkaAddress,
    StoreUrl,
    UserError,
    asynchronous,
    read_settings,
)
from consumers.cli.read_model import read_model
from consumers.cli.terminal import console, print_json, print_table
from consumers.files import read_text
from consumers.invoices import FIELDS, read_invoice
from consumers.policy_file import read_policy
from consumers.readmodel.queries import booked_by_call, booked_by_day
from router.attempt.model_quirks import names_model
from router.policy.table import Policy
from router.reports.invoice import AMOUNTS, Booked, Compared, Invoice, LineKey, compare
from schemas.base import EARLIEST, LATEST
from schemas.spans import span_text

__all__ = ["app"]

_DAY = timedelta(days=1)

app = typer.Typer(help="Compare a provider's invoice with the ledger.", no_args_is_help=True)


@app.callback()
def options() -> None:
    """Compare a provider's invoice with the ledger."""


@app.command()
@asynchronous
async def check(
    file: Annotated[Path, Argument(metavar="FILE", help="The export, as JSON or CSV.")],
    columns: Annotated[
        str | None,
        Option(
            "--map",
            metavar="FIELD=COLUMN,…",
            help=f"Read these columns of an export that is not known: {', '.join(FIELDS)}.",
        ),
    ] = None,
    provider: Annotated[
        str | None,
        Option(metavar="NAME", help="Compare with calls to this provider; else to those in FILE."),
    ] = None,
    within: Annotated[
        float, Option(metavar="DOLLARS", min=0, help="Let a line differ by so much.")
    ] = 0.0,
    every: Annotated[bool, Option("--all", help="List what agrees, too.")] = False,
    store: StoreUrl = None,
    kafka: KafkaAddress = None,
    as_json: AsJson = False,
) -> int:
    """Compare an invoice with the ledger, line by line, and exit with 1 if they differ."""
    settings = read_settings(kafka)
    policy = read_policy(settings)

    def known_as(name: str) -> str:
        """The name under which a model of an invoice is compared: its id in the policy."""
        for model in policy.models.values():
            if any(names_model(name, known) for known in (model.id, *model.answers_as)):
                return model.id
        return name

    invoice = read_invoice(read_text(file), str(file), _columns(columns), known_as)
    ends = [datetime.fromisoformat(day).replace(tzinfo=UTC) for day in invoice.days]
    since, until = (ends[0], ends[-1] + _DAY) if ends else (EARLIEST, LATEST)
    first = ends[0] - _DAY if ends else None
    async with read_model(settings, store, settings.kafka.topics.of_figures, first) as model:
        if invoice.has_ids and ends and not model.keeps_calls(since, clock.now()):
            keep = span_text(settings.store.keep)
            msg = f"{file}: calls are kept for {keep} (TIERLINE_STORE__KEEP), these are older"
            raise UserError(msg)
        booked = await model.ask(
            lambda tables: (
                booked_by_call(tables, {key[0] for key in invoice.lines}, since, until)
                if invoice.has_ids
                else booked_by_day(tables, policy, since, until)
            )
        )
    ledger = _comparable(booked, invoice, policy, provider)
    lines = compare(invoice.lines, ledger, Decimal(str(within)) * 1_000_000)
    differing = [line for line in lines if line.status != "agrees"]
    names = ("call",) if invoice.has_ids else ("day", "model")
    rows = [
        {**dict(zip(names, line.key, strict=True)), **_row(line)}
        for line in lines
        if every or line in differing
    ]
    if as_json:
        print_json({"lines": len(lines), "differing": len(differing), "rows": rows})
    else:
        if rows:
            print_table(rows, tuple(rows[0]), optional=("where",))
        agreed = counted(len(lines) - len(differing), "line")
        console().print(f"{agreed} of {len(lines):,} agree")
    return FAILED if differing else OK


def _columns(text: str | None) -> Mapping[str, str]:
    """The columns that `--map` names, by their fields. Raises UserError."""
    pairs = [part.partition("=") for part in (text or "").split(",") if part.strip()]
    columns = {field.strip(): column.strip() for field, _, column in pairs}
    if unknown := [field for field in columns if field not in FIELDS or not columns[field]]:
        msg = f"--map {unknown[0]}: FIELD=COLUMN was expected, with one of {', '.join(FIELDS)}"
        raise UserError(msg)
    return columns


def _comparable(
    ledger: Mapping[LineKey, Booked], invoice: Invoice, policy: Policy, provider: str | None
) -> Mapping[LineKey, Booked]:
    """The ledger's lines, whose keys begin with the provider, under the keys of the invoice."""
    models = {key[-1] for key in invoice.lines}
    at = {model.provider for model in policy.models.values() if model.id in models}
    providers = {provider} if provider else at
    comparable: dict[LineKey, Booked] = {}
    for (name, *key), booked in ledger.items():
        if not providers or name in providers:
            if not invoice.has_ids:
                row = policy.models.get(key[1])
                key[1] = (row.id if row else key[1]) if any(models) else ""
            line = comparable.setdefault(tuple(key), Booked())
            line.add(booked.amounts)
            line.is_estimated |= booked.is_estimated
    return comparable


def _row(line: Compared) -> dict[str, object]:
    """What both sides say of a line, and by how much the ledger says more."""
    row: dict[str, object] = {"status": line.status}
    for name in AMOUNTS:
        for what, side in (("invoiced", line.invoice), ("booked", line.ledger)):
            row[f"{name} {what}"] = _number(side.amounts.get(name) if side else None)
        if name != "calls":
            row[f"{name} more"] = _number(line.differences.get(name))
    places = line.invoice.places if line.invoice else []
    return row | {"where": cell_text([*places[:3], *(["…"] if places[3:] else [])])}


def _number(amount: Decimal | None) -> float | None:
    return None if amount is None else int(amount) if amount == int(amount) else float(amount)

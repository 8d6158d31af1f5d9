"""`tierline verify-ledger`: caps, reservations, the ledger and a bill agree to the last unit."""

import contextlib
import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import orjson
from typer import Option

from consumers import clock
from consumers.budgets import key_words, read_books
from consumers.cli.common import (
    FAILED,
    OK,
    AsJson,
    KafkaAddress,
    UserError,
    asynchronous,
    read_settings,
)
from consumers.cli.terminal import console, print_json, print_table, reading_bar
from consumers.files import read_text
from consumers.policies import active_policy
from consumers.runtime.clients import Clients
from consumers.runtime.topic_reader import topic_reader
from router.money.accounts import Account
from router.money.verify import Calls, against_bill, against_counters, book_call
from router.policy.caps import amount_text
from router.policy.table import Policy
from schemas.attempt import LedgerEntry, announces
from schemas.base import EARLIEST
from schemas.codec import read_model
from schemas.errors import ContractError

__all__ = ["verify_ledger"]

_LEFT_OUT = (
    "accounts not compared with the ledger: they changed meanwhile, count premium requests, or are "
    "of a cap that has another unit or window now"
)


class _Amount(NamedTuple):
    """What should be 0."""

    where: str
    unit: str
    amount: int

    @staticmethod
    def of(account: Account, amount: int) -> "_Amount":
        return _Amount(f"{account.cap}: {key_words(account)}", account.unit, amount)


@asynchronous
async def verify_ledger(
    bill: Annotated[
        Path | None,
        Option(metavar="FILE", help="Compare with JSON Lines or CSV of attempt_id and micros."),
    ] = None,
    kafka: KafkaAddress = None,
    as_json: AsJson = False,
) -> int:
    """Check that no cap was passed and that the ledger has what was spent, to the last unit."""
    settings = read_settings(kafka)
    billed = None if bill is None else _read_bill(bill)
    policy, now = await active_policy(settings), clock.now()
    clients = Clients(settings.kafka).named("commands")
    before = await read_books(clients)
    accounts = [each for book in before for each in book.accounts(now)]
    since = min((account.start for account in accounts), default=now)
    calls = await _calls(clients, policy, EARLIEST if bill else since)
    after = await read_books(clients)
    # What changes meanwhile cannot be compared.
    later = {each.place: each for book in after for each in book.accounts(now)}
    still = [account for account in accounts if account == later.get(account.place)]
    opened = {name: end for book in after for name, end in book.reservations().items()}
    unsettled = {name for book in before for name in book.reservations()} | {*opened}
    more = against_counters(still, calls, policy, unsettled)
    checks: dict[str, list[_Amount]] = {
        "overshoot": [_Amount.of(each, each.overshoot) for each in accounts],
        "leaked reservations": [_Amount(name, "", int(end <= now)) for name, end in opened.items()],
        "ledger - counters": [_Amount.of(a, more[a.place]) for a in still if a.place in more],
    }
    if billed is not None:
        by_attempt = against_bill(calls, billed).items()
        checks["ledger - bill"] = [_Amount(name, "dollars", micros) for name, micros in by_attempt]
    _show(checks, len(accounts) - len(more), as_json=as_json)
    differs = any(each.amount for amounts in checks.values() for each in amounts)
    return FAILED if differs else OK


async def _calls(clients: Clients, policy: Policy, since: datetime) -> Calls:
    """The calls of the ledger from an instant on."""
    calls: Calls = {}
    topic, begin = clients.settings.topics.attempts, None if since == EARLIEST else since
    async with topic_reader(clients, [topic], since=begin) as reader:
        with reading_bar() as seen:
            async for record in reader.until_end(seen):
                if not announces(record.value):
                    with contextlib.suppress(ContractError):
                        book_call(calls, read_model(LedgerEntry, record.value), policy)
    return calls


def _read_bill(file: Path) -> Mapping[str, int]:
    """What each attempt was billed. Raises UserError, OSError."""
    lines = read_text(file).splitlines()
    is_json, billed = bool(lines) and lines[0].startswith("{"), Counter[str]()
    rows: Iterable[Any] = lines if is_json else csv.DictReader(lines)
    for number, line in enumerate(rows, 1 if is_json else 2):
        try:
            row = orjson.loads(line) if is_json else line
            billed[str(row["attempt_id"])] += int(str(row["micros"]))
        except (ValueError, KeyError, TypeError):
            msg = f"{file}: line {number}: attempt_id and micros, a whole number, were expected"
            raise UserError(msg) from None
    return billed


def _show(checks: Mapping[str, Sequence[_Amount]], left_out: int, *, as_json: bool) -> None:
    named, rows = list[dict[str, Any]](), list[dict[str, Any]]()
    for check, amounts in checks.items():
        differing = [{"check": check, **each._asdict()} for each in amounts if each.amount]
        named += differing
        rows.append({"check": check, "compared": len(amounts), "differing": len(differing)})
    if as_json:
        print_json({"checks": rows, "not_compared": left_out, "differences": named})
        return
    print_table(rows, ("check", "compared", "differing"))
    if left_out:
        console().print(f"{left_out} {_LEFT_OUT}")
    for row in named:
        row["amount"] = row["unit"] and amount_text(row["amount"], row["unit"])
    if named:
        print_table(named, ("check", "where", "amount"))

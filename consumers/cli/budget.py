"""`tierline budget`: what each cap has spent, reserved and left, and grants that raise one."""

import getpass
import uuid
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer
from typer import Argument, Option

from consumers import clock
from consumers.budgets import in_words, read_accounts, row_of
from consumers.cli.common import (
    AsJson,
    KafkaAddress,
    UserError,
    asynchronous,
    read_settings,
    span_of,
)
from consumers.cli.terminal import console, print_json, print_table
from consumers.policies import active_policy
from consumers.runtime.clients import Clients
from consumers.runtime.publisher import publisher
from consumers.runtime.topic_reader import topic_reader
from router.errors import did_you_mean
from router.money.accounts import Account
from router.policy.caps import Cap, amount_text, domain_of
from router.policy.table import Policy
from schemas.admission import marked_as, partition_of_domain
from schemas.base import is_identifier
from schemas.codec import dump
from schemas.money import Grant

__all__ = ["app"]

_COLUMNS = ("cap", "key", "used", "limit", "spent", "reserved", "free", "until", "forecast")
_NONE = (
    "no cap has an account yet: one begins with the first request that its cap touches; "
    "`tierline policy show` lists the caps"
)
_MICROS = 1_000_000

app = typer.Typer(
    help="Show what each cap has spent, reserved and left, and raise a cap for somebody.",
    no_args_is_help=True,
)


@app.command("list")
@asynchronous
async def list_budgets(
    cap: Annotated[
        str | None, Option("--cap", metavar="NAME", help="Take only this cap's accounts.")
    ] = None,
    kafka: KafkaAddress = None,
    as_json: AsJson = False,
) -> None:
    """List the accounts of all caps in their present windows, the fullest first."""
    settings = read_settings(kafka)
    accounts = await read_accounts(Clients(settings.kafka).named("budgets"), clock.now())
    _show([each for each in accounts if cap in (None, each.cap)], as_json=as_json)


@app.command()
@asynchronous
async def show(
    key: Annotated[
        str, Argument(metavar="KEY", help="A tenant, user, plan or other value of a cap's scope.")
    ],
    kafka: KafkaAddress = None,
    as_json: AsJson = False,
) -> None:
    """Show the accounts that are kept for somebody or something, with what was granted."""
    settings = read_settings(kafka)
    accounts = await read_accounts(Clients(settings.kafka).named("budgets"), clock.now())
    named = [each for each in accounts if key in each.key.values()]
    if not named and accounts and not as_json:
        msg = f"{key}: no cap has an account for it; `tierline budget list` shows all accounts"
        raise UserError(msg)
    _show(named, as_json=as_json, beside=("granted", "confirmed", "open"))


@app.command()
@asynchronous
async def grant(
    cap: Annotated[str, Argument(metavar="CAP", help="The cap's name in the policy.")],
    key: Annotated[
        list[str] | None,
        Argument(
            metavar="[SCOPE=VALUE]...",
            help="Whose account it is, for example tenant=acme user=u1: all of the cap's scope.",
        ),
    ] = None,
    extra: Annotated[
        str, Option("--extra", metavar="AMOUNT", help="US dollars, or tokens, as the cap counts.")
    ] = "",
    span: Annotated[
        str, Option("--for", metavar="SPAN", help="How long it holds, for example 3h or 7d.")
    ] = "",
    because: Annotated[
        str, Option("--because", metavar="TEXT", help="Why, in a sentence: it is kept.")
    ] = "",
    who: Annotated[
        str | None, Option("--who", metavar="NAME", help="Who grants it; by default, your login.")
    ] = None,
    kafka: KafkaAddress = None,
    as_json: AsJson = False,
) -> None:
    """Raise a cap for one key for a while, with a reason; waiting requests go on by themselves."""
    settings = read_settings(kafka)
    name = who or getpass.getuser()
    if not is_identifier(name):
        msg = f"--who {name!r}: a name without blanks was expected, for example an e-mail address"
        raise UserError(msg)
    if not because.strip():
        msg = "--because TEXT: a reason was expected, which is kept with the grant"
        raise UserError(msg)
    policy, now = await active_policy(settings), clock.now()
    row = _cap_of(policy, cap)
    whose = _key_of(row, cap, key or ())
    amount = _amount_of(row, extra)
    granted = Grant(
        id=uuid.uuid4().hex,
        cap=cap,
        key=whose,
        **{"micros" if row.unit == "dollars" else "tokens": amount},
        until=now + span_of(span, "--for"),
        reason=because.strip(),
        who=name,
        at=now,
    )
    clients = Clients(settings.kafka).named("budgets")
    topic = settings.kafka.topics.admission
    async with topic_reader(clients, [topic]) as reader:
        partitions, _ = (await reader.counts()).get(topic, (0, 0))
    if not partitions:
        msg = f"{topic}: missing; create it, or run `tierline topics create`"
        raise UserError(msg)
    place = partition_of_domain(domain_of(policy, whose.get("tenant") or ""), partitions)
    async with publisher(clients) as out:
        value = dump(granted.model_dump(mode="json"))
        headers, record_key = [marked_as("grant")], granted.id.encode()
        _ = await (
            await out.publish(topic, value, key=record_key, headers=headers, partition=place)
        )
    if as_json:
        print_json(granted.model_dump(mode="json"))
        return
    words = ", ".join(f"{scope} {value}" for scope, value in whose.items()) or "everything"
    console().print(
        f"granted: cap {cap} is {amount_text(amount, row.unit)} higher for {words} "
        f"until {granted.until:%Y-%m-%d %H:%M} UTC; `tierline budget list --cap {cap}` shows it"
    )


def _show(accounts: Sequence[Account], *, as_json: bool, beside: Sequence[str] = ()) -> None:
    now = clock.now()
    if as_json:
        print_json([row_of(account, now) for account in accounts])
    elif not accounts:
        console().print(_NONE)
    else:
        rows = [in_words(account, now) for account in accounts]
        print_table(rows, (*_COLUMNS, *beside), optional=("forecast", "until"))


def _cap_of(policy: Policy, name: str) -> Cap:
    if (row := policy.caps.get(name)) is None:
        hint = did_you_mean(name, policy.caps) or f"; it has {', '.join(policy.caps) or 'none'}"
        msg = f"{name}: the policy has no such cap{hint}"
        raise UserError(msg)
    if row.unit == "premium_share" or row.per == "request":
        msg = f"{name}: a cap on the premium share, or of one request, cannot be raised for a key"
        raise UserError(msg)
    return row


def _key_of(row: Cap, name: str, pairs: Sequence[str]) -> dict[str, str | None]:
    key: dict[str, str | None] = {}
    for pair in pairs:
        scope, equals, value = pair.partition("=")
        if not equals or not value or scope in key:
            msg = f"{pair}: SCOPE=VALUE was expected, each scope once, for example tenant=acme"
            raise UserError(msg)
        key[scope] = value
    if set(key) != set(row.kept_by):
        wanted = " ".join(f"{scope}=VALUE" for scope in row.kept_by) or "no key at all"
        msg = f"{name}: its accounts are kept by other keys; {wanted} was expected"
        raise UserError(msg)
    return {scope: key[scope] for scope in row.kept_by}


def _amount_of(row: Cap, extra: str) -> int:
    """The amount in the cap's unit. Raises UserError."""
    try:
        amount = Decimal(extra) * (_MICROS if row.unit == "dollars" else 1)
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or amount <= 0 or amount % 1 or amount > _MICROS**3:
        kind = "US dollars with at most six decimals" if row.unit == "dollars" else "whole tokens"
        msg = f"--extra {extra!r}: {kind}, more than 0, were expected"
        raise UserError(msg)
    return int(amount)

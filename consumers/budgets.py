"""Budgets: what every cap has spent, reserved and left, as the admit stage's state says it."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from consumers.runtime.clients import Clients
from consumers.runtime.keyed_state import StatePart, note_change
from consumers.runtime.topic_reader import topic_reader
from router.money.accounts import Account
from router.money.book import Book
from router.policy.caps import amount_text
from schemas.topics import state_topic

__all__ = ["in_words", "key_words", "read_accounts", "read_books", "row_of"]

#: The figures of a row that are amounts of its cap's unit.
_AMOUNTS = ("limit", "granted", "confirmed", "spent", "reserved", "free", "forecast")
#: No forecast is made before so much of a window has passed.
_LEAST_SHARE = 0.02
#: From which share on an account is nearly full.
_NEARLY = 0.8


async def read_accounts(clients: Clients, now: datetime) -> Sequence[Account]:
    """The accounts of all windows that are not over, the fullest first. Raises KafkaError."""
    accounts = [each for book in await read_books(clients) for each in book.accounts(now)]
    return sorted(accounts, key=_fullness, reverse=True)


async def read_books(clients: Clients) -> Sequence[Book]:
    """The books of all partitions as they are now, to be read alone. Raises KafkaError."""
    topic = clients.settings.topics.name(state_topic("admit").name)
    values: defaultdict[int, dict[bytes, bytes]] = defaultdict(dict)
    async with topic_reader(clients, [topic]) as reader:
        async for records in reader.batches(await reader.ends()):
            for record in records:
                note_change(values[record.partition], record)
    return [Book(StatePart(held)) for held in values.values()]


def row_of(account: Account, now: datetime) -> dict[str, Any]:
    """An account for machines; amounts are micro-dollars, tokens, or premium requests."""
    return {
        "cap": account.cap,
        "unit": account.unit,
        "key": dict(account.key),
        "since": account.start,
        "until": account.end,
        "limit": account.limit,
        "granted": account.in_force,
        "confirmed": account.confirmed,
        "spent": account.spent,
        "reserved": account.reserved,
        "free": max(account.free, 0),
        "forecast": _forecast(account, now),
        "open": account.open,
        "level": _level(account),
    }


def in_words(account: Account, now: datetime) -> dict[str, object]:
    """An account for people: a row of a table."""
    row = row_of(account, now)
    amounts = {
        name: "" if row[name] is None else amount_text(row[name], account.unit) for name in _AMOUNTS
    }
    used = f"{_fullness(account):.0%} {row['level']}".strip()
    until = "" if "request" in account.key else f"{account.end:%Y-%m-%d %H:%M} UTC"
    return {**row, **amounts, "key": key_words(account), "used": used, "until": until}


def key_words(account: Account) -> str:
    """Whose account it is."""
    named = (f"{scope} {value or '(none)'}" for scope, value in account.key.items())
    return ", ".join(named) or "everything"


def _fullness(account: Account) -> float:
    taken = account.spent + account.reserved
    return taken / account.allowed if account.allowed > 0 else float(taken > 0)


def _level(account: Account) -> str:
    if account.free <= 0:
        return "full"
    return "nearly full" if _fullness(account) >= _NEARLY else ""


def _forecast(account: Account, now: datetime) -> int | None:
    """What is spent by the end of the window, if it goes on at its average so far."""
    passed, whole = now - account.start, account.end - account.start
    if "request" in account.key or passed < whole * _LEAST_SHARE:
        return None
    return max(round(account.spent * (whole / passed)), account.spent)

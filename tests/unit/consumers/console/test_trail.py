"""The audit trail: chained, only added to, and sent on until Kafka has it."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import delete, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from consumers.console.store import Store, open_store
from consumers.console.tables import AUDIT
from router.audit import broken, chained
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
    drop = "DROP TRIGGER audit_no_update"
    if not store.database.is_sqlite:
        drop = "DROP TRIGGER audit_only_grows ON audit"
    async with store.database.writing() as connection:
        await connection.execute(text(drop))
        forged = second.model_copy(update={"note": "9 cases"})
        line = forged.model_dump_json(exclude_none=True).encode()
        await connection.execute(update(AUDIT).where(AUDIT.c.no == 2).values(line=line))

    assert broken(await store.trail.chain(store.trail.writer)) == [
        f"{store.trail.writer} line 2: it is not as it was written"
    ]


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
    assert await store.trail.lines(since=NOON, limit=1) == [second]
    assert await store.trail.lines(before=NOON) == []

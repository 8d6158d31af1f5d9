"""Drivers keep statements compiled: there are few, however many requests are taken in at once."""

import re
from typing import Any

from sqlalchemy import event

from tests.tables import record_of, tables, take_in
from tests.unit.consumers.readmodel.test_projection import a_line, a_result

_REQUESTS = 300


def test_batches_of_any_length_need_few_statements_that_search_an_index() -> None:
    """Statements that each name a thousand requests took more memory than all else together.

    One that reads its whole table makes the time grow with the square.
    """
    seen: list[str] = []
    given: list[Any] = []
    told = [(a_line(1, f"r-{no}"), a_result(1, f"r-{no}")) for no in range(_REQUESTS)]
    with tables() as connection:

        def note(*execution: object) -> None:
            seen.append(str(execution[2]))
            given.append(execution[3])

        event.listen(connection, "before_cursor_execute", note)
        first, count = 0, 1
        while first < _REQUESTS:
            lines = told[first : first + count]
            for kind in range(2):
                take_in(
                    connection,
                    [record_of(line[kind], first + no) for no, line in enumerate(lines)],
                )
            first, count = first + count, count + 1
        event.remove(connection, "before_cursor_execute", note)

        for text, parameters in zip(seen, given, strict=True):
            if text.startswith(("SELECT calls.", "SELECT outcomes.", "SELECT feedback.")):
                plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", parameters).all()
                assert not re.search(r"SCAN (calls|outcomes|feedback)", str(plan))

    reads = {text for text in seen if text.startswith("SELECT calls.")}
    assert len(reads) <= 8  # by powers of two up to 128
    assert max(map(len, reads)) < 4_000

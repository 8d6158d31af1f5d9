"""Drivers keep statements compiled: there are few, however many requests are taken in at once."""

from sqlalchemy import event

from tests.tables import record_of, tables, take_in
from tests.unit.consumers.readmodel.test_projection import a_line, a_result

_REQUESTS = 300


def test_batches_of_any_length_need_few_statements() -> None:
    """Statements that each name a thousand requests took more memory than all else together."""
    seen: list[str] = []
    told = [(a_line(1, f"r-{no}"), a_result(1, f"r-{no}")) for no in range(_REQUESTS)]
    with tables() as connection:

        def note(*execution: object) -> None:
            seen.append(str(execution[2]))

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

    reads = {text for text in seen if text.startswith("SELECT calls.")}
    assert len(reads) <= 8  # by powers of two up to 128
    assert max(map(len, reads)) < 4_000

"""What `submit --wait` tells at its end: one sum, in time that grows with the file alone."""

import time
from typing import Any

from consumers.cli.outcomes import Ended, Progress, Sent
from schemas.codec import dump
from schemas.reasons import Reason
from schemas.tenancy import RequestKey
from schemas.topics import Topics
from tests.builders import a_record

TOPICS = Topics("")


def key(no: int) -> RequestKey:
    return RequestKey("default", f"r-{no}")


def awaiting(count: int) -> Progress:
    sent = Sent(count)
    for no in range(count):
        sent.names |= {key(no): key(no), f"llm.intake-0-{no}": key(no)}
        sent.bodies.add((key(no), b"body"))
    progress = Progress(count)
    progress.begin(sent)
    return progress


def a_result(request_id: str, **fields: object) -> Any:
    info = {"tenant": "default", "kind": "answer", "cost_micros": 7, "output": {"answer": "x"}}
    value = dump({"id": request_id, "router": {**info, **fields}})
    return a_record(value, topic=TOPICS.results)


def a_letter(reason: str, offset: int) -> Any:
    said = {"topic": "llm.intake", "partition": "0", "offset": str(offset), "reason": reason}
    headers = [(f"tierline-{name}", text.encode()) for name, text in said.items()]
    return a_record(b"{}", topic=TOPICS.dead_letters, headers=headers)


def test_the_counts_are_one_sum_and_planned_approvals_are_no_failure() -> None:
    progress = awaiting(4)
    records = [
        a_result("r-0", final=False),
        a_result("r-0"),
        a_result("r-1", kind="safe_default"),
        a_letter("approval_required", 2),
        a_result("of somebody else"),
    ]
    for record in records:
        if (ended := Ended.of(record, TOPICS)) is not None:
            progress.note(ended)
    found = progress.found
    found.missing = progress.left_count

    assert found.in_words() == [
        "4 outcomes: 1 answer, 1 safe default, 1 answer to approve, 1 unfinished"
    ]
    assert (found.cost_micros, found.failed, found.is_well) == (14, 0, False)
    ended = Ended.of(a_letter("not_json", 3), TOPICS)
    assert ended is not None
    assert progress.note(ended)
    found.missing = progress.left_count
    assert found.in_words()[1] == f"  1 not_json: {Reason.NOT_JSON.meaning}"
    assert (found.missing, found.failed, found.is_well) == (0, 1, False)
    assert found.as_fields()["dead_letters"] == {"not_json": 1}


def test_a_file_whose_answers_all_wait_for_approval_has_ended_well() -> None:
    progress = awaiting(1)
    ended = Ended.of(a_letter("approval_required", 0), TOPICS)
    assert ended is not None
    assert progress.note(ended)

    assert progress.found.is_well


def test_waiting_grows_with_the_file_and_not_with_its_square() -> None:
    def seconds(size: int) -> float:
        progress, began = awaiting(size), time.process_time()
        for no in range(size):
            assert progress.note(Ended({key(no)}))
        return time.process_time() - began

    small = min(seconds(2_000) for _ in range(3))
    assert min(seconds(8_000) for _ in range(3)) < 4 * small * 3

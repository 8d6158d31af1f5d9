"""What `submit --wait` tells at its end: one sum, in time that grows with the file alone."""

import time
from typing import Any

import pytest

from consumers.cli.outcomes import Ended, Progress
from consumers.cli.sent import Place, Sent, hash_of
from consumers.runtime.connection import KafkaUnreachableError
from schemas.codec import dump
from schemas.reasons import Reason
from schemas.tenancy import RequestKey
from schemas.topics import Topics
from tests.builders import a_record

TOPICS = Topics("")


def key(no: int) -> RequestKey:
    return RequestKey("default", f"r-{no}")


def awaiting(count: int) -> Progress:
    progress = Progress(count)
    for no in range(count):
        progress.sent.add(key(no), hash_of(b"body"), Place(0, no))
    progress.sent.write()
    return progress


def noted(progress: Progress, record: Any) -> bool:
    ended = Ended.of(record, TOPICS, TOPICS.intake)
    return ended is not None and progress.note(ended)


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
    assert [noted(progress, record) for record in records] == [False, True, True, True, False]
    found = progress.outcomes
    found.missing = progress.sent.left

    assert found.in_words() == [
        "4 outcomes: 1 answer, 1 safe default, 1 answer to approve, 1 unfinished"
    ]
    assert (found.cost_micros, found.failed, found.is_well) == (14, 0, False)
    assert noted(progress, a_letter("not_json", 3))
    found.missing = progress.sent.left
    assert found.in_words()[1] == f"  1 not_json: {Reason.NOT_JSON.meaning}"
    assert (found.missing, found.failed, found.is_well) == (0, 1, False)
    assert found.as_fields()["dead_letters"] == {"not_json": 1}


def test_what_was_spent_before_is_not_spent_again() -> None:
    progress = awaiting(2)
    assert noted(progress, a_result("r-0"))
    assert noted(progress, a_result("r-1"))
    progress.outcomes.before, progress.outcomes.before_micros = 1, 7

    assert progress.outcomes.in_words() == [
        "2 outcomes: 2 answers",
        "  1 of them already done before this run, for $0.000007",
    ]
    assert progress.outcomes.as_fields()["already_spent_micros"] == 7


def test_a_file_whose_answers_all_wait_for_approval_has_ended_well() -> None:
    progress = awaiting(1)
    assert noted(progress, a_letter("approval_required", 0))

    assert progress.outcomes.is_well


def test_waiting_grows_with_the_file_and_not_with_its_square() -> None:
    def seconds(size: int) -> float:
        progress, began = awaiting(size), time.process_time()
        for no in range(size):
            assert progress.note(Ended(hash_of(key(no))))
        assert not progress.sent.left
        return time.process_time() - began

    small = min(seconds(2_000) for _ in range(3))
    assert min(seconds(8_000) for _ in range(3)) < 4 * small * 3


def test_a_body_has_one_outcome_and_other_bodies_under_its_id_have_theirs() -> None:
    sent = Sent()
    for offset, (no, body) in enumerate([(0, b"a"), (0, b"a"), (0, b"b"), (1, b"a")]):
        sent.add(key(no), hash_of(body), Place(0, offset))
    sent.write()

    assert (sent.count, sent.repeats, sent.left) == (4, 1, 3)
    assert [sent.end(hash_of(key(0))) for _ in range(3)] == [True, True, False]
    assert [sent.end(hash_of(key(2)), Place(0, 3)) for _ in range(2)] == [True, False]
    assert not sent.left


def test_what_had_no_id_is_known_by_its_place() -> None:
    sent = Sent()
    sent.add(RequestKey("default", "llm.intake-1-7"), hash_of(b"x"), Place(1, 7))
    sent.write()
    result = Ended.of(a_result("llm.intake-1-7", tenant="proven"), TOPICS, TOPICS.intake)
    elsewhere = Ended.of(a_result("llm.intake.acme-1-7", tenant="p"), TOPICS, TOPICS.intake)

    assert result is not None
    assert elsewhere is not None
    assert not sent.end(elsewhere.request, elsewhere.place)
    assert sent.end(result.request, result.place)


def test_only_what_lay_there_before_is_a_repeat() -> None:
    sent, body = Sent(), b'{"id": "r-0", "input": "x"}'
    sent.add(key(0), hash_of(body), Place(0, 5))
    sent.write()
    sent.look_back()
    known = hash_of(key(0))

    sent.note_earlier(known, b"of another run", is_result=True)
    assert [sent.is_repeat(body, Place(*at)) for at in ((0, 5), (0, 6))] == [False, False]
    assert not list(sent.earlier())
    assert not sent.is_repeat(b"other", Place(0, 4))
    assert [sent.is_repeat(body, Place(*at)) for at in ((0, 4), (1, 9))] == [True, True]
    for told, is_result in ((b"letter", False), (b"later letter", False), (b"result", True)):
        sent.note_earlier(known, told, is_result=is_result)
        assert list(sent.earlier()) == [(known, b"result" if is_result else b"letter")]


@pytest.mark.parametrize(
    ("has_passing_ids", "words"),
    [
        (False, "is not processed twice"),
        (True, "a prompt and lines without an id may be processed twice"),
    ],
)
def test_what_is_sent_again_is_done_twice_unless_it_has_an_id(
    has_passing_ids: bool, words: str
) -> None:
    progress = Progress(1)
    progress.sent.has_passing_ids = has_passing_ids
    with pytest.raises(KafkaUnreachableError) as refused:
        progress.tell()

    assert words in refused.value.for_people


def test_nothing_is_shown_of_a_kafka_that_is_away(capsys: pytest.CaptureFixture[str]) -> None:
    progress = awaiting(1)
    progress.is_published = progress.is_kafka_away = True

    assert progress.tell() == 1
    said = capsys.readouterr().out
    assert "next: Kafka no longer answers; `tierline doctor` looks for the cause" in said
    assert "tierline top" not in said

"""Which dead letters a requeue of many takes: those on which nobody's decision stands."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from consumers.buckets import Buckets
from consumers.cli.requeue import Candidate, Plan, _open, requeue_line
from router.review.standing import Decisions
from schemas.base import Tier
from schemas.dead_letter import DeadLetter, Pointer
from schemas.reasons import Reason
from schemas.review import AuditLine
from tests.builders import NOON, a_record, an_attempt, the_policy

PLAN = Plan(timedelta(minutes=15))


def a_candidate(offset: int, plan: Plan = PLAN) -> Candidate:
    letter = DeadLetter(
        request_id=f"r-{offset}",
        task="triage",
        reason=Reason.NO_TIER_LEFT,
        detail="",
        stage="route",
        source=Pointer(topic="llm.intake", partition=0, offset=offset),
        failed_at=NOON,
        attempts=[an_attempt(Tier.LOW, reply="x" * 1000)],
    )
    headers = (("tierline-attempts", b"x" * 1000), ("traceparent", b"00-a-b-01"), ("theirs", b"1"))
    record = a_record(
        b"x" * 1000, topic="llm.dead-letters", partition=0, offset=offset, headers=headers
    )
    return Candidate.of(record, letter, the_policy(), plan)


def undone(line: AuditLine, by: str = "undo") -> AuditLine:
    assert line.decision is not None
    return line.model_copy(
        update={"what": by, "decision": None, "undoes": line.decision.decision_id}
    )


def test_a_candidate_has_none_of_what_may_be_large() -> None:
    one = a_candidate(1)
    assert "tierline-attempts" not in dict(one.headers)
    assert len(str(one)) < 1000
    assert one.cost_micros > 0
    dearer = a_candidate(1, replace(PLAN, tier=Tier.PREMIUM))
    assert dearer.cost_micros > one.cost_micros


@given(
    st.lists(st.tuples(st.sampled_from(["decide", "undo", "refused"]), st.integers(0, 5))),
    st.integers(1, 3),
)
def test_what_a_bucket_leaves_open_is_what_nobodys_decision_stands_on(
    acts: list[tuple[str, int]], shares: int
) -> None:
    """As the review stage judges, whatever comes into the same bucket."""
    candidates = [a_candidate(no) for no in range(6)]
    given_: dict[int, AuditLine] = {}
    whole, told = Decisions(), list[tuple[int, int, float, AuditLine]]()
    for offset, (act, no) in enumerate(acts):
        if act == "decide":
            line = given_[no] = requeue_line(candidates[no], NOON, PLAN, None)
        elif no in given_:
            line = undone(given_[no], act)
        else:
            continue
        whole.note(offset, 0.0, line)
        told.append((0, offset, 0.0, line))
    found: list[Any] = []
    with Buckets[Any]() as pieces:
        for one in candidates:
            pieces.put(one.place.offset % shares, one)
        for piece in told:
            letter = piece[3].letter
            assert letter is not None
            pieces.put(letter.offset % shares, piece)
        for bucket in pieces.each():
            found += _open(bucket)
    assert {one.request_id for one in found} == {
        one.request_id for one in candidates if whole.standing(str(one.place)) is None
    }

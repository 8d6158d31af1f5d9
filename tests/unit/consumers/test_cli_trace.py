"""The waterfall of `tierline trace`, drawn from what the topics hold."""

from datetime import timedelta

import orjson

from consumers.cli.waterfall import _drawn, _Scale
from consumers.journeys.journey import Journey, Stop
from consumers.journeys.waterfall import waterfall
from consumers.stages.dead_letters import DeadLetters
from schemas.base import Tier
from schemas.reasons import Reason
from schemas.topics import Topics
from tests.builders import NOON, a_record, an_attempt

TOPICS = Topics()
SECOND = timedelta(seconds=1)
LOW, BALANCED = TOPICS.tier(Tier.LOW), TOPICS.tier(Tier.BALANCED)


def a_journey(*stops: tuple[float, str], calls: tuple[tuple[float, Tier], ...] = ()) -> Journey:
    journey = Journey("r-1")
    journey.stops = [Stop(NOON + after * SECOND, topic, "") for after, topic in stops]
    for no, (after, tier) in enumerate(calls, 1):
        attempt = an_attempt(tier, attempt_no=no, started_at=NOON + after * SECOND)
        journey.attempts[attempt.call_id] = attempt
    return journey


def names_of(journey: Journey) -> list[str]:
    return [bar.name for bar in waterfall(journey, TOPICS)]


def test_a_call_stands_below_its_tier_also_where_the_clocks_differ() -> None:
    journey = a_journey(
        (0, TOPICS.intake),
        (1, LOW),
        (2, TOPICS.escalations),
        (3, BALANCED),
        (4, TOPICS.results),
        calls=((0.9, Tier.LOW), (4.2, Tier.BALANCED)),
    )

    names = names_of(journey)
    assert [names.index(LOW) + 1, names.index(BALANCED) + 1] == [
        number for number, name in enumerate(names) if name.startswith("chat ")
    ]


def test_days_of_waiting_leave_the_rest_to_be_seen() -> None:
    day = 86_400
    journey = a_journey(
        (0, TOPICS.intake),
        (1, LOW),
        (3, TOPICS.dead_letters),
        (3 * day, TOPICS.escalations),
        (3 * day + 1, BALANCED),
        (3 * day + 4, TOPICS.results),
    )
    bars = waterfall(journey, TOPICS)
    scale = _Scale(bars)
    drawn = [_drawn(bar, scale).strip() for bar in bars]

    assert all(len(line) >= 1 for line in drawn)
    assert len(drawn[1]) > len(drawn[0])
    assert set(drawn[2]) == {"┅"}, "the long wait says that it is cut"
    assert {"━"} == set(drawn[1]) | set(drawn[4])


def test_a_record_that_cannot_be_read_is_found_by_its_place() -> None:
    journey = Journey("llm.intake-3-17")
    journey.read(a_record(b"\xff{", topic=TOPICS.intake, partition=3, offset=17), TOPICS)

    [stop] = journey.stops
    assert stop.words.startswith("cannot be read: ")


def test_what_people_did_is_told() -> None:
    journey = Journey("r-1")
    line = {
        "writer": "c1",
        "no": 1,
        "at": NOON.isoformat(),
        "who": "ann",
        "what": "claim",
        "request_id": "r-1",
    }
    journey.read(a_record(orjson.dumps(line), topic=TOPICS.review), TOPICS)

    assert [stop.words for stop in journey.stops] == ["claim by ann"]
    assert [moment.what for moment in journey.moments()] == ["review"]


def test_what_comes_after_a_result_does_not_stretch_it() -> None:
    journey = a_journey((0, TOPICS.intake), (1, LOW), (2, TOPICS.results), (140, TOPICS.intake))
    bars = waterfall(journey, TOPICS)

    assert [(bar.duration_ms, bar.is_end) for bar in bars] == [
        (1000.0, False),
        (1000.0, False),
        (0.0, True),
        (0.0, False),
    ]


def test_a_short_way_is_drawn_as_it_was() -> None:
    bars = waterfall(a_journey((0, LOW), (0.051, LOW), (0.248, TOPICS.results)), TOPICS)

    assert not any(_Scale(bars).is_cut(bar) for bar in bars)


def test_a_dead_letter_is_found_by_the_place_it_names() -> None:
    letter = DeadLetters("route", TOPICS, lambda: NOON).of_record(
        a_record(b"no JSON", topic=TOPICS.intake, partition=3, offset=17), Reason.NOT_JSON, "at 1"
    )
    journey = Journey("llm.intake-3-17")
    journey.read(a_record(letter.value, topic=letter.topic, headers=tuple(letter.headers)), TOPICS)

    assert journey.is_known
    assert [one.reason for _, one in journey.letters] == [Reason.NOT_JSON]


def test_a_linked_journey_names_its_first_trace() -> None:
    journey = Journey("r-1")
    for at, trace in ((2_000, "b" * 32), (1_000, "a" * 32)):
        parent = f"00-{trace}-{'c' * 16}-01".encode()
        line = {"writer": "c1", "no": 1, "at": NOON.isoformat(), "who": "ann", "what": "claim"}
        value = orjson.dumps({**line, "request_id": "r-1"})
        fields = {"topic": TOPICS.review, "timestamp": at, "headers": (("traceparent", parent),)}
        journey.read(a_record(value, **fields), TOPICS)

    assert journey.trace_id == "a" * 32

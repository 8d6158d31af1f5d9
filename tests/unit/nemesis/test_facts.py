"""What the judge is told of a fault: whose calls it cut off, and which died with a process."""

from typing import Any

from tests.nemesis.facts import cut_off, died_with
from tests.nemesis.faults import Cut
from tests.nemesis.world import member_header


def _call(id_: str, received: float, first_byte: float, who: str = "work-1", no: int = 1) -> Any:
    return {
        "request_id": id_,
        "attempt_id": f"{id_}.1.{no}",
        "received": received,
        "first_byte": first_byte,
        "cost_micros": 10,
        "fault": None,
        "header_names": ["host", member_header(who)],
    }


def test_a_freeze_cuts_calls_off_and_excuses_none_from_being_booked() -> None:
    calls = [_call("open", 9.0, 11.0), _call("over", 1.0, 2.0), _call("later", 12.0, 13.0)]
    freeze = Cut(at=10.0, since=8.0)

    assert cut_off(calls, [freeze]) == [{"open": 1}]
    assert died_with(calls, [freeze]) == {}


def test_a_process_that_dies_takes_the_calls_of_its_own_requests_with_it() -> None:
    """Also earlier ones of the same request, which wait with the last one for its end."""
    calls = [
        _call("mine", 5.0, 6.0),
        _call("mine", 9.0, 11.0, no=2),
        _call("others", 9.0, 11.0, "work-2"),
        _call("others-too", 9.0, 11.0, "work-11"),
        _call("over", 1.0, 2.0),
    ]
    death = Cut(at=10.0, since=8.0, died="work-1")

    assert died_with(calls, [death]) == {"mine.1.1": 1, "mine.1.2": 1}
    assert cut_off(calls, [death]) == [{"mine": 2, "others": 1, "others-too": 1}]


def test_what_was_repeated_elsewhere_is_not_excused_with_it() -> None:
    calls = [_call("r", 9.0, 11.0), _call("r", 15.0, 16.0, "work-2")]

    assert died_with(calls, [Cut(at=10.0, since=8.0, died="work-1")]) == {"r.1.1": 1}
    assert died_with([{**calls[0], "cost_micros": 0}], [Cut(10.0, 8.0, "work-1")]) == {}


def test_a_request_whose_call_has_failed_is_cut_off_while_it_waits_and_is_booked_by_then() -> None:
    failed = {**_call("waits", 3.0, 4.0), "fault": "cut"}
    turned_away = {**_call("waits", 5.0, 5.1, no=2), "fault": "http_503", "cost_micros": 0}
    long_ago = {**_call("over", -40.0, -39.0), "fault": "cut"}
    death = Cut(at=10.0, since=8.0, died="work-1")

    assert cut_off([failed, turned_away, long_ago], [death]) == [{"waits": 1}]
    assert died_with([failed, turned_away], [death]) == {}

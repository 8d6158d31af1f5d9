"""What the judge is told of a fault: whose calls it may have cut off."""

from typing import Any

from tests.nemesis.facts import cut_off
from tests.nemesis.faults import Cut


def _call(id_: str, received: float, first_byte: float, no: int = 1) -> Any:
    return {
        "request_id": id_,
        "attempt_id": f"{id_}.1.{no}",
        "received": received,
        "first_byte": first_byte,
        "cost_micros": 10,
        "fault": None,
    }


def test_what_is_open_is_cut_off_and_what_was_over_or_came_later_is_not() -> None:
    calls = [_call("open", 9.0, 11.0), _call("over", 1.0, 2.0), _call("later", 12.0, 13.0)]
    freeze = Cut(at=10.0, since=8.0)

    assert cut_off(calls, [freeze]) == [{"open": 1}]


def test_earlier_calls_of_a_request_wait_with_the_last_one_for_its_end() -> None:
    calls = [_call("r", 5.0, 6.0), _call("r", 9.0, 11.0, no=2), _call("over", 1.0, 2.0)]

    assert cut_off(calls, [Cut(at=10.0, since=8.0)]) == [{"r": 2}]


def test_a_request_whose_call_has_failed_is_cut_off_while_it_waits_and_is_booked_by_then() -> None:
    failed = {**_call("waits", 3.0, 4.0), "fault": "cut"}
    turned_away = {**_call("waits", 5.0, 5.1, no=2), "fault": "http_503", "cost_micros": 0}
    long_ago = {**_call("over", -40.0, -39.0), "fault": "cut"}
    death = Cut(at=10.0, since=8.0)

    assert cut_off([failed, turned_away, long_ago], [death]) == [{"waits": 1}]

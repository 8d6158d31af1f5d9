"""Repeats of a request id, against a model that remembers everything."""

from hypothesis import given
from hypothesis import strategies as st

from router.intake.repeats import Repeat, SeenIds
from schemas.tenancy import RequestKey

HOUR = 3600.0


def _key(request_id: str, tenant: str = "default") -> RequestKey:
    return RequestKey(tenant, request_id)


def test_an_id_of_another_tenant_is_another_id() -> None:
    seen = SeenIds(HOUR, 10)
    seen.note(_key("a", "one"), b"1", 0.0)

    assert seen.note(_key("a", "two"), b"2", 1.0) is Repeat.NEW
    assert seen.note(_key("a"), b"3", 2.0) is Repeat.NEW
    assert seen.note(_key("a", "one"), b"1", 3.0) is Repeat.SAME


def test_the_same_bytes_are_a_repeat_and_other_bytes_a_reuse() -> None:
    seen = SeenIds(HOUR, 10)

    assert seen.note(_key("a"), b"1", 0.0) is Repeat.NEW
    assert seen.note(_key("b"), b"1", 1.0) is Repeat.NEW
    assert seen.note(_key("a"), b"1", 2.0) is Repeat.SAME
    assert seen.note(_key("a"), b"2", 3.0) is Repeat.OTHER_BODY
    assert seen.note(_key("a"), b"1", 4.0) is Repeat.SAME


def test_an_id_is_forgotten_after_the_window_counted_from_its_first_record() -> None:
    seen = SeenIds(HOUR, 10)
    seen.note(_key("a"), b"1", 0.0)

    assert seen.note(_key("a"), b"1", HOUR - 1) is Repeat.SAME
    assert seen.note(_key("a"), b"2", HOUR) is Repeat.NEW


def test_the_oldest_ids_make_room_for_new_ones() -> None:
    seen = SeenIds(HOUR, 2)
    for number, name in enumerate("abc"):
        seen.note(_key(name), b"1", float(number))

    assert len(seen) == 2
    assert seen.note(_key("a"), b"1", 4.0) is Repeat.NEW
    assert seen.note(_key("c"), b"1", 5.0) is Repeat.SAME


@given(
    records=st.lists(st.tuples(st.sampled_from("abcde"), st.binary(max_size=1))),
    cut=st.integers(0, 50),
)
def test_read_again_from_the_start_it_judges_alike(
    records: list[tuple[str, bytes]], cut: int
) -> None:
    """A process that takes the partition over at any place goes on as the former one would have."""
    first, model = SeenIds(HOUR, 100), dict[str, bytes]()
    verdicts = []
    for number, (name, body) in enumerate(records):
        verdicts.append(first.note(_key(name), body, float(number)))
        before = model.setdefault(name, body) if name in model else None
        model.setdefault(name, body)
        expected = Repeat.NEW if before is None else Repeat.SAME
        assert verdicts[-1] is (expected if before in (None, body) else Repeat.OTHER_BODY)

    second = SeenIds(HOUR, 100)
    again = [second.note(_key(name), body, float(n)) for n, (name, body) in enumerate(records)]
    assert again[cut:] == verdicts[cut:]

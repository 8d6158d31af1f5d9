"""Trace contexts in headers: what is read, what is refused, and what the next record carries."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.propagators.textmap import DefaultGetter
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from consumers.telemetry.context import (
    TraceContext,
    new_context,
    read_context,
    with_context,
)
from schemas.codec import Headers, passed_on

_TRACE, _SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
_GOOD = f"00-{_TRACE}-{_SPAN}-01"


@pytest.mark.parametrize(
    ("value", "is_sampled"),
    [
        pytest.param(_GOOD, True, id="sampled"),
        pytest.param(f"00-{_TRACE}-{_SPAN}-00", False, id="not sampled"),
        pytest.param(f"00-{_TRACE}-{_SPAN}-03", True, id="with the flag of random ids"),
        pytest.param(f"00-{_TRACE}-{_SPAN}-02", False, id="random ids, not sampled"),
        pytest.param(f"01-{_TRACE}-{_SPAN}-01", True, id="a later version"),
        pytest.param(f"01-{_TRACE}-{_SPAN}-01-what-else", True, id="a later version that has more"),
    ],
)
def test_a_context_is_read(value: str, is_sampled: bool) -> None:
    found, why = read_context([("traceparent", value.encode())])

    assert why is None
    assert found == TraceContext(_TRACE, _SPAN, is_sampled)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(_GOOD.upper().encode(), id="upper case"),
        pytest.param(f"ff-{_TRACE}-{_SPAN}-01".encode(), id="version ff"),
        pytest.param(f"00-{_TRACE}-{_SPAN}-01-x".encode(), id="more than version 0 has"),
        pytest.param(f"00-{'0' * 32}-{_SPAN}-01".encode(), id="trace id zero"),
        pytest.param(f"00-{_TRACE}-{'0' * 16}-01".encode(), id="span id zero"),
        pytest.param(f"00-{_TRACE}-{_SPAN}-0g".encode(), id="flags that are no number"),
        pytest.param(f"00-{_TRACE[:-1]}-{_SPAN}-001".encode(), id="shifted by one"),
        pytest.param(f"0-{_TRACE}-{_SPAN}-011".encode(), id="short version"),
        pytest.param(f"00_{_TRACE}_{_SPAN}_01".encode(), id="other separators"),
        pytest.param(b"\xff" * 55, id="no text"),
        pytest.param(_GOOD.encode() + b"-" + b"a" * 10_000, id="ten thousand bytes"),
    ],
)
def test_what_is_malformed_is_refused(value: bytes) -> None:
    assert read_context([("traceparent", value)]) == (None, "malformed")


def test_two_parents_are_no_parent() -> None:
    headers = [("traceparent", _GOOD.encode()), ("Traceparent", _GOOD.encode())]
    assert read_context(headers) == (None, "repeated")


def test_a_state_of_too_many_members_is_dropped_and_the_parent_kept() -> None:
    state = ",".join(f"v{number}=1" for number in range(33))
    headers = [("traceparent", _GOOD.encode()), ("tracestate", state.encode())]

    found, why = read_context(headers)

    assert found == TraceContext(_TRACE, _SPAN, is_sampled=True)
    assert why is None


def test_only_allowed_members_of_the_baggage_are_kept() -> None:
    baggage = b"tenant=acme;ttl=1, user=jane,secret=x"
    headers = [("traceparent", _GOOD.encode()), ("baggage", baggage)]

    kept, _ = read_context(headers, baggage_names={"tenant", "secret"})
    every, _ = read_context(headers)

    assert kept is not None
    assert kept.baggage == "tenant=acme;ttl=1,secret=x"
    assert every is not None
    assert every.baggage == "tenant=acme;ttl=1,user=jane,secret=x"


_headers = st.lists(
    st.tuples(
        st.sampled_from(["traceparent", "TRACEPARENT", "tracestate", "baggage", "x-shop"])
        | st.text(string.ascii_letters, min_size=1, max_size=8),
        st.sampled_from([_GOOD.encode(), b"a=1", b"\xff", b""]) | st.binary(max_size=60),
    ),
    max_size=8,
)


@given(_headers, st.integers(1, 6))
def test_any_chain_of_hops_leaves_exactly_one_parent(headers: Headers, hops: int) -> None:
    """Escalations, dead letters and requeues included: each passes headers on and sets one."""
    others = [(name, value) for name, value in headers if name.lower() not in _OURS]
    first = None
    for _ in range(hops):
        found, _ = read_context(headers)
        context = found or new_context()
        first = first or context
        headers = with_context(passed_on(headers), context)

        assert context.trace_id == first.trace_id
        assert [name.lower() for name, _ in headers].count("traceparent") == 1
    assert [one for one in headers if one[0].lower() not in _OURS] == others


_OURS = ("traceparent", "tracestate", "baggage")


@given(
    st.binary(max_size=80) | st.from_regex(rb"[0-9a-f]{2}-[0-9a-f]{31,33}-[0-9a-f]{16}-[0-9a-f]{2}")
)
def test_whatever_we_read_the_official_propagator_reads_alike(value: bytes) -> None:
    found, _ = read_context([("traceparent", value)])
    if found is None:
        return
    carrier = {"traceparent": value.decode("ascii")}
    extracted = TraceContextTextMapPropagator().extract(carrier, getter=DefaultGetter())
    theirs = get_current_span(extracted).get_span_context()
    assert (theirs.trace_id, theirs.span_id) == (int(found.trace_id, 16), int(found.span_id, 16))
    assert theirs.trace_flags.sampled is found.is_sampled


@given(st.floats(0, 1))
def test_a_share_of_the_traces_is_kept_by_their_id(share: float) -> None:
    context = new_context()
    assert context.is_within(share) is context.is_within(share)
    assert context.is_within(1.0)
    assert not context.is_within(0.0)


@pytest.mark.parametrize(
    "state",
    [b"Bad Key=x", b"a=one,a=two", b"a=b=c", b"a=", b"=b", b"a=\x01"],
    ids=["a blank in a key", "twice", "two equal signs", "no value", "no key", "control"],
)
def test_a_state_that_the_tracing_library_would_write_to_the_log_is_dropped(state: bytes) -> None:
    parent = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    context, why = read_context([("traceparent", parent), ("tracestate", state)])

    assert context is not None
    assert (context.state, why) == ("", None)

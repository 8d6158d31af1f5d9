"""The trace check sees whatever is wrong with a trace, and nothing where all is well."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.telemetry.journeys import Journey, findings, spans_of, strangers, trees
from tests.telemetry.phoenix import Kept

_NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
_TRACE, _OTHER = "a" * 32, "b" * 32
_JOURNEY = Journey(
    "one",
    "shop",
    ("shop", "process", "chat small", "send llm.dead-letters", "send llm.escalations"),
    trace_id=_TRACE,
    received_calls=1,
    pause=timedelta(days=3),
)
_PRICED = {
    "gen_ai.usage.input_tokens": 10,
    "gen_ai.usage.output_tokens": 2,
    "gen_ai.usage.cost.amount": 0.001,
    "gen_ai.usage.cost.currency": "USD",
}
_TOKENS = {_TRACE: (10, 2)}

Spans = dict[str, Kept]


def _span(
    name: str,
    parent: str | None,
    fields: Mapping[str, object] | None = None,
    *,
    after: timedelta = timedelta(0),
) -> Kept:
    named = {"messaging.message.conversation_id": "one", **(fields or {})}
    start = _NOON + after
    end = start + timedelta(seconds=1)
    return Kept(_TRACE, name, parent, name, start, end, named, "UNSET")


def _whole() -> Spans:
    """A journey with which nothing is wrong. A span's id is its name."""
    spans = (
        _span("shop", None),
        _span("process", "shop"),
        _span("chat small", "process", _PRICED),
        _span("send llm.dead-letters", "process"),
        _span("send llm.escalations", "send llm.dead-letters", after=timedelta(days=3, seconds=2)),
    )
    return {one.name: one for one in spans}


def _broken(spans: Sequence[Kept], journey: Journey = _JOURNEY) -> set[str]:
    return {one.question for one in findings(journey, spans, _TOKENS) if not one.is_good}


def _changed(spans: Spans, name: str, **changes: object) -> None:
    spans[name] = replace(spans[name], **changes)  # type: ignore[arg-type]


def _without(spans: Spans, key: str) -> None:
    call = spans["chat small"]
    left = {name: value for name, value in call.fields.items() if name != key}
    spans["chat small"] = replace(call, fields=left)


def test_a_whole_journey_has_nothing_broken() -> None:
    spans = list(_whole().values())

    assert _broken(spans) == set()
    assert strangers(spans, [_JOURNEY]).is_good
    assert len(trees(spans_of(spans, "one"))) == 1


@pytest.mark.parametrize(
    ("spoil", "question"),
    [
        pytest.param(
            lambda spans: _changed(spans, "send llm.escalations", trace_id=_OTHER, parent_id=None),
            "one trace, the producer's where it has one",
            id="it goes on in another trace",
        ),
        pytest.param(
            lambda spans: _changed(spans, "process", parent_id=None),
            "begins with shop",
            id="it begins twice",
        ),
        pytest.param(
            lambda spans: spans.pop("process"), "no parent is missing", id="a parent never came"
        ),
        pytest.param(
            lambda spans: spans.pop("chat small"), "every span is there", id="a span never came"
        ),
        pytest.param(
            lambda spans: _without(spans, "gen_ai.usage.output_tokens"),
            "every call has tokens and cost",
            id="a call does not say what it wrote",
        ),
        pytest.param(
            lambda spans: _without(spans, "gen_ai.usage.cost.amount"),
            "every call has tokens and cost",
            id="a call does not say what it cost",
        ),
        pytest.param(
            lambda spans: _without(spans, "gen_ai.usage.cost.currency"),
            "every call has tokens and cost",
            id="a call does not say in which money",
        ),
        pytest.param(
            lambda spans: _changed(
                spans, "chat small", fields={**_PRICED, "gen_ai.usage.input_tokens": 11}
            ),
            "the backend's own token totals",
            id="the backend adds up something else",
        ),
        pytest.param(
            lambda spans: spans.pop("chat small"),
            "the provider's calls, but the one cut off",
            id="a call that was received is not seen",
        ),
        pytest.param(
            lambda spans: _changed(spans, "send llm.escalations", parent_id="process"),
            "goes on below its dead letter",
            id="what is sent again hangs elsewhere",
        ),
    ],
)
def test_what_is_broken_is_seen(spoil: Callable[[Spans], object], question: str) -> None:
    spans = _whole()
    spoil(spans)

    assert question in _broken(list(spans.values()))


def test_a_request_that_no_span_names_is_broken_in_every_way() -> None:
    assert "every span is there" in _broken([])
    assert "every call has tokens and cost" in _broken([])


def test_a_trace_that_broke_off_and_names_no_request_is_seen() -> None:
    alone = replace(_span("send", None), trace_id=_OTHER, fields={})

    assert not strangers([*_whole().values(), alone], [_JOURNEY]).is_good


def test_a_failed_call_costs_nothing_but_must_say_so() -> None:
    spans, free = _whole(), dict.fromkeys(_PRICED, 0) | {"gen_ai.usage.cost.currency": "USD"}
    failed = replace(_span("chat other", "process", free), status="ERROR")
    journey = replace(_JOURNEY, received_calls=2)

    assert _broken([*spans.values(), failed], journey) == set()
    silent = replace(failed, fields={"messaging.message.conversation_id": "one"})
    assert _broken([*spans.values(), silent], journey) == {"every call has tokens and cost"}


@pytest.mark.parametrize(
    ("name", "died_after_seconds", "is_excused"),
    [
        pytest.param("chat small", 5, True, id="a call that ended before the kill"),
        pytest.param("chat small", 0, False, id="a call that ended after the kill"),
        pytest.param("send llm.results", 5, False, id="what only a commit ends"),
    ],
)
def test_only_what_a_killed_worker_left_behind_may_lack_its_parent(
    name: str, died_after_seconds: int, is_excused: bool
) -> None:
    died_at = _NOON + timedelta(seconds=died_after_seconds)
    journey = replace(_JOURNEY, died_at=died_at, received_calls=None)
    left = replace(_span(name, "never came", _PRICED), span_id="left")
    spans = [*_whole().values(), left]

    assert ("no parent is missing" not in _broken(spans, journey)) is is_excused
    assert len(trees(spans_of(spans, "one"))) == 2

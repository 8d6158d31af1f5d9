"""How long each check takes at 2 kB: with what it needs of the request at hand, and without."""

import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from router.checks import CHECKS, Asked, Judged, NamedCheck, named
from router.json_schemas.validator import compile_schema
from router.reply.reply import Reply
from schemas.request import Request
from schemas.usage import Usage
from tests.bench.harness import sized

__all__ = ["measure_checks"]

_SIZE = 2000
_ROUNDS = sized(15, 1)
_CALLS = sized(200, 2)
_GOAL_US = 50.0
_SENTENCES = (
    "Refunds are possible within 30 days of the delivery, as order AB-2231 shows [1].",
    "The portal of Leeds keeps every deleted file for 14 days and then removes it for good [2].",
    "Open the page of your account, choose the invoice of 1,200 euros and confirm the change.",
    "Please write to Jane Doe when the invoice from the office in Porto is not yet corrected.",
)
_PARAMETERS: Mapping[str, Any] = {
    "length": {"most_words": 400, "most_characters": 3000},
    "required": {"phrases": ["the portal"], "when": {"refund": "30 days"}},
    "forbidden": {
        "phrases": ["I guarantee", "as an AI"],
        "unless": {"legal advice": "lawyer"},
        "phones": True,
    },
}
_SCHEMA = {
    "type": "object",
    "required": ["answer", "confidence"],
    "properties": {"answer": {"type": "string"}, "confidence": {"type": "number"}},
}
_TOOL = {
    "name": "look_up",
    "parameters": {"type": "object", "required": ["text"], "properties": {"text": {}}},
}


def measure_checks() -> Iterator[str]:
    """A row per check: microseconds with the request's facts at hand, and for a first reply."""
    goal = f"goal: <= {_GOAL_US:g} each, at {_SIZE} bytes"
    yield f"{'check':<14}{'µs':>8}{'µs, first reply':>18}   {goal}"
    for name in CHECKS:
        [check] = named({name: _PARAMETERS.get(name, {})})
        request, make = _case(name)
        asked = Asked(request)
        if (wrong := check.check.run(make(asked), check.parameters)) is not None:
            raise RuntimeError(name, wrong)
        known = _median(check, make, lambda asked=asked: asked)  # type: ignore[misc]
        first = _median(check, make, partial(Asked, request))
        yield f"{name:<14}{known:>8.1f}{first:>18.1f}"


def _case(name: str) -> tuple[Request, Callable[[Asked], Judged]]:
    """A request with 2 kB of sources, and a reply of 2 kB that passes."""
    blocks = "\n\n".join(f"[{number % 2 + 1}] {text}" for number, text in enumerate(_text()))
    calls_tools = name == "tool_calls"
    request = Request.model_validate(
        {
            "input": {
                "messages": [{"role": "user", "content": "What about my refund of the invoice?"}],
                "tools": [{"type": "function", "function": _TOOL}],
            },
            "context": {"retrieved": blocks},
        }
    )
    answer = " ".join(_text())
    arguments = json.dumps({"text": answer})
    call = {"function": {"name": "look_up", "arguments": arguments}}
    message = {"content": "", "tool_calls": [call] if calls_tools else []}
    reply = Reply(answer, "stop", Usage(), {"choices": [{"message": message}]})

    def make(asked: Asked) -> Judged:
        return Judged(
            reply=reply,
            output={"answer": answer, "confidence": 0.9},
            validator=compile_schema(json.dumps(_SCHEMA).encode()),
            confidence=0.9,
            accept=0.7,
            asked=asked,
            calls_tools=calls_tools,
        )

    return request, make


def _text() -> list[str]:
    each = sum(map(len, _SENTENCES)) + len(_SENTENCES)
    return ["Please write to help@example.com.", *_SENTENCES * (_SIZE // each + 1)]


def _median(
    check: NamedCheck, make: Callable[[Asked], Judged], asked: Callable[[], Asked]
) -> float:
    """Microseconds of one run, without making what is judged."""
    run, parameters, rounds = check.check.run, check.parameters, []
    for _ in range(_ROUNDS):
        cases = [make(asked()) for _ in range(_CALLS)]
        began = time.perf_counter()
        for case in cases:
            run(case, parameters)
        rounds.append((time.perf_counter() - began) / _CALLS * 1e6)
    return statistics.median(rounds)

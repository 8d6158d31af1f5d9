"""The fault menu: a call names one in the header `x-sim-fault`, or settings give each a share.

A fault is said in the words of the format that the call came in.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from consumers.simulator.answers import Said
from consumers.simulator.wires import Wire

__all__ = ["FAULTS", "Fault"]

#: Changes a reply in place.
Spoil = Callable[[Wire, dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong, and whether the model ran all the same."""

    says: str
    is_billed: bool
    status: int = 200
    headers: Mapping[str, str] | None = None
    #: The error's code and words; None: there is a reply.
    error: tuple[str, str] | None = None
    #: Sent instead of a reply.
    body: bytes | None = None
    #: What the model says instead.
    said: Said | None = None
    spoil: Spoil | None = None
    #: What happens on the way: `whole`, `short`, `cut`, `reset`, `drip` or `hang`.
    manner: str = "whole"


def _refusing(says: str, status: int, code: str, message: str, **headers: str) -> Fault:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Fault(says, is_billed=False, status=status, headers=named, error=(code, message))


def _spoiled(says: str, spoil: Spoil) -> Fault:
    return Fault(says, is_billed=True, spoil=spoil)


def _counting(count: Callable[[int], int]) -> Spoil:
    def spoil(wire: Wire, reply: dict[str, Any]) -> None:
        reply[wire.usage] = {name: count(value) for name, value in reply[wire.usage].items()}

    return spoil


FAULTS: Mapping[str, Fault] = {
    "http_429": _refusing(
        "asks to wait a second", 429, "rate_limit_exceeded", "Rate limit reached", retry_after="1"
    ),
    "http_429_quota": _refusing(
        "has no credit left", 429, "insufficient_quota", "You exceeded your quota"
    ),
    "http_500": _refusing("fails", 500, "server_error", "Server error"),
    "http_503": _refusing("is overloaded", 503, "overloaded", "Overloaded"),
    "http_401": _refusing(
        "does not know the key", 401, "invalid_api_key", "Incorrect API key provided"
    ),
    "http_403": _refusing("has revoked the key", 403, "forbidden", "This key has been revoked"),
    "context_too_long": _refusing(
        "cannot read so much", 400, "context_length_exceeded", "prompt is too long: context window"
    ),
    "prompt_filtered": _refusing(
        "filters the prompt", 400, "content_filter", "The prompt triggered content management"
    ),
    "redirect": Fault(
        "sends the caller to a metadata service",
        is_billed=False,
        status=307,
        headers={"location": "http://169.254.169.254/latest/meta-data"},
        body=b"",
    ),
    "reset": Fault("closes before the first byte", is_billed=True, manner="reset"),
    "cut": Fault("closes in the middle of the reply", is_billed=True, manner="cut"),
    "drip": Fault("sends a byte every 0.3 s", is_billed=True, manner="drip"),
    "hang": Fault("never answers", is_billed=True, manner="hang"),
    "malformed_json": Fault("sends broken JSON", is_billed=True, body=b'{"id": "x", "choices": ['),
    "truncated_json": Fault(
        "sends half of the reply as if it were whole", is_billed=True, manner="short"
    ),
    "html_page": Fault("sends a web page", is_billed=False, body=b"<html><body>Bad gateway</body>"),
    "empty_choices": _spoiled(
        "sends no choice", lambda wire, reply: reply.update({wire.choices: []})
    ),
    "wrong_schema": Fault(
        "answers in another format", is_billed=True, said=Said('{"verdict": [1, 2]}')
    ),
    "refusal": Fault("refuses", is_billed=True, said=Said("I can't help with that.", refusal=True)),
    "content_filter": Fault("filters", is_billed=True, said=Said("", finish="content_filter")),
    "cut_off": Fault("stops in mid-sentence", is_billed=True, said=Said("In sh", finish="length")),
    "usage_missing": _spoiled(
        "does not say what it counted", lambda wire, reply: reply.pop(wire.usage, None)
    ),
    "usage_negative": _spoiled("counts below nothing", _counting(lambda count: -count - 1)),
    "usage_zero": _spoiled("counts nothing", _counting(lambda _: 0)),
    "usage_huge": _spoiled("counts a million millions", _counting(lambda _: 10**12)),
    "usage_over_limit": _spoiled(
        "counts more output than was allowed",
        lambda wire, reply: reply[wire.usage].update({wire.written: 200_000}),
    ),
    "other_model": _spoiled(
        "lets another model answer", lambda wire, reply: reply.update({wire.model: "sim-other"})
    ),
    "other_call": Fault(
        "answers another call", is_billed=True, headers={"x-tierline-attempt": "another.1.1"}
    ),
}

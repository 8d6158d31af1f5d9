"""The fault menu: a call names a fault in the header `x-sim-fault`, or settings give each a share.

Errors are written in the format that the call came in.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from consumers.lab.simulator.answers import ModelReply
from consumers.lab.simulator.wires import Wire

__all__ = ["FAULTS", "Fault"]

#: Changes the body of a reply in place.
Spoil = Callable[[Wire, dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong, and whether the model ran all the same."""

    is_billed: bool
    status: int = 200
    headers: Mapping[str, str] | None = None
    #: The error's code and message; None: there is a reply.
    error: tuple[str, str] | None = None
    #: Sent instead of a reply.
    body: bytes | None = None
    #: Instead of the model's own reply.
    reply: ModelReply | None = None
    spoil: Spoil | None = None
    #: How the reply is sent: `whole`; `short`, its first half as if that were all; `cut` off in the
    #: middle; `reset` before the first byte; `drip`, a byte every 0.3 s; or `hang`, never.
    manner: str = "whole"


def _refusing(status: int, code: str, message: str, **fields: str) -> Fault:
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    return Fault(is_billed=False, status=status, headers=headers, error=(code, message))


def _counting(count: Callable[[int], int]) -> Fault:
    """A reply whose usage has these counts instead of its own."""

    def spoil(wire: Wire, reply: dict[str, Any]) -> None:
        reply[wire.usage] = {name: count(value) for name, value in reply[wire.usage].items()}

    return Fault(is_billed=True, spoil=spoil)


FAULTS: Mapping[str, Fault] = {
    "http_429": _refusing(429, "rate_limit_exceeded", "Rate limit reached", retry_after="1"),
    "http_429_quota": _refusing(429, "insufficient_quota", "You exceeded your quota"),
    "http_500": _refusing(500, "server_error", "Server error"),
    "http_503": _refusing(503, "overloaded", "Overloaded"),
    "http_401": _refusing(401, "invalid_api_key", "Incorrect API key provided"),
    "http_403": _refusing(403, "forbidden", "This key has been revoked"),
    "context_too_long": _refusing(
        400, "context_length_exceeded", "prompt is too long: context window"
    ),
    "prompt_filtered": _refusing(400, "content_filter", "The prompt triggered content management"),
    "redirect": Fault(
        is_billed=False,
        status=307,
        headers={"location": "http://169.254.169.254/latest/meta-data"},
        body=b"",
    ),
    "reset": Fault(is_billed=True, manner="reset"),
    "cut": Fault(is_billed=True, manner="cut"),
    "drip": Fault(is_billed=True, manner="drip"),
    "hang": Fault(is_billed=True, manner="hang"),
    "malformed_json": Fault(is_billed=True, body=b'{"id": "x", "choices": ['),
    "truncated_json": Fault(is_billed=True, manner="short"),
    "html_page": Fault(is_billed=False, body=b"<html><body>Bad gateway</body>"),
    "empty_choices": Fault(
        is_billed=True, spoil=lambda wire, reply: reply.update({wire.choices: []})
    ),
    "wrong_schema": Fault(is_billed=True, reply=ModelReply('{"verdict": [1, 2]}')),
    "refusal": Fault(is_billed=True, reply=ModelReply("I can't help with that.", is_refusal=True)),
    "content_filter": Fault(is_billed=True, reply=ModelReply("", finish="content_filter")),
    "cut_off": Fault(is_billed=True, reply=ModelReply("In sh", finish="length")),
    "usage_missing": Fault(is_billed=True, spoil=lambda wire, reply: reply.pop(wire.usage, None)),
    "usage_negative": _counting(lambda count: -count - 1),
    "usage_zero": _counting(lambda _: 0),
    "usage_huge": _counting(lambda _: 10**12),
    "usage_over_limit": Fault(
        is_billed=True,
        spoil=lambda wire, reply: reply[wire.usage].update({wire.written: 200_000}),
    ),
    "other_model": Fault(
        is_billed=True, spoil=lambda wire, reply: reply.update({wire.model: "sim-other"})
    ),
    "other_call": Fault(is_billed=True, headers={"x-tierline-attempt": "another.1.1"}),
}

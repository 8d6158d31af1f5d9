"""The fault menu: a call names one in the header `x-sim-fault`, or settings give each a share."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["FAULTS", "Fault"]


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong, and whether the model ran all the same."""

    says: str
    is_billed: bool
    status: int = 200
    headers: Mapping[str, str] | None = None
    #: Sent instead of the reply; None: the reply, or nothing.
    body: bytes | None = None
    #: What happens to the connection: `whole`, `cut`, `reset`, `drip` or `hang`.
    manner: str = "whole"


FAULTS: Mapping[str, Fault] = {
    "http_429": Fault(
        "asks to wait a second",
        is_billed=False,
        status=429,
        headers={"retry-after": "1"},
        body=b'{"error":{"message":"Rate limit reached","code":"rate_limit_exceeded"}}',
    ),
    "http_429_quota": Fault(
        "has no credit left",
        is_billed=False,
        status=429,
        body=b'{"error":{"message":"You exceeded your quota","code":"insufficient_quota"}}',
    ),
    "http_500": Fault(
        "fails", is_billed=False, status=500, body=b'{"error":{"message":"Server error"}}'
    ),
    "http_503": Fault(
        "is overloaded", is_billed=False, status=503, body=b'{"error":{"message":"Overloaded"}}'
    ),
    "http_401": Fault(
        "does not know the key",
        is_billed=False,
        status=401,
        body=b'{"error":{"message":"Incorrect API key provided","code":"invalid_api_key"}}',
    ),
    "context_too_long": Fault(
        "cannot read so much",
        is_billed=False,
        status=400,
        body=b'{"error":{"message":"maximum context length","code":"context_length_exceeded"}}',
    ),
    "reset": Fault("closes before the first byte", is_billed=True, manner="reset"),
    "cut": Fault("closes in the middle of the reply", is_billed=True, manner="cut"),
    "drip": Fault("sends a byte every 0.3 s", is_billed=True, manner="drip"),
    "hang": Fault("never answers", is_billed=True, manner="hang"),
    "malformed_json": Fault("sends broken JSON", is_billed=True, body=b'{"id": "x", "choices": ['),
    "empty_choices": Fault(
        "sends no choice",
        is_billed=True,
        body=b'{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[]}',
    ),
    "html_page": Fault("sends a web page", is_billed=False, body=b"<html><body>Bad gateway</body>"),
}

"""The seam between us and a provider's own format."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from consumers.providers.usage import Counts
from router.reply.reply import Reply
from schemas.errors import TierlineError

__all__ = ["UnreadableError", "Wire"]


class UnreadableError(TierlineError):
    """A reply is not in its provider's format; the message names the field, not its value."""


@dataclass(frozen=True, slots=True)
class Wire:
    """One provider API. A new one is a file with these, and a line in `wires.py`."""

    name: str
    #: The path below the base URL; `{model}` stands for the model's id.
    path: str
    #: From a chat body in the OpenAI form to the body to send.
    encode: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    #: From the provider's JSON, and the chat body it answers, to a reply. Raises UnreadableError.
    decode: Callable[[Any, Mapping[str, Any]], Reply]
    #: The usage in the provider's JSON, also where nothing else of it can be read.
    counts: Callable[[Any], Counts | None]
    #: The header that carries the key, in `authorization` as a bearer.
    key_header: str = "authorization"
    #: Headers sent with every call.
    headers: Mapping[str, str] = field(default_factory=dict)

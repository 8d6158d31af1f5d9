"""The formats we speak, by their names in a provider's settings."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from consumers.providers.conversations import RULES, fitted_tools, named_back
from consumers.providers.wire import Wire
from consumers.providers.wire_anthropic import ANTHROPIC
from consumers.providers.wire_gemini import GEMINI
from consumers.providers.wire_openai import OPENAI
from router.reply.reply import Reply

__all__ = ["WIRES"]


def _with_fitted_names(wire: Wire) -> Wire:
    """The format, with other names for tools whose own names it does not take."""
    rules = RULES[wire.name]

    def encode(body: Mapping[str, Any]) -> Mapping[str, Any]:
        return wire.encode(fitted_tools(body, rules))

    def decode(data: Any, body: Mapping[str, Any]) -> Reply:
        return named_back(wire.decode(data, body), body, rules)

    return replace(wire, encode=encode, decode=decode)


WIRES: Mapping[str, Wire] = {
    wire.name: _with_fitted_names(wire) for wire in (OPENAI, ANTHROPIC, GEMINI)
}

"""The formats we speak, by the name that a provider's settings use."""

from collections.abc import Mapping

from consumers.providers.wire import Wire
from consumers.providers.wire_anthropic import ANTHROPIC
from consumers.providers.wire_gemini import GEMINI
from consumers.providers.wire_openai import OPENAI

__all__ = ["WIRES"]

WIRES: Mapping[str, Wire] = {wire.name: wire for wire in (OPENAI, ANTHROPIC, GEMINI)}

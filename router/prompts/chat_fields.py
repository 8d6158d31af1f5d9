"""Which fields of a producer's chat body a provider is sent, for each wire format.

A chat body has the OpenAI form whatever the format. Each list names the fields that its format has,
with the types and sizes in its publisher's documentation. Fields in no list are not sent: those by
which gateways choose another model, address or key, tools that run at the provider, options that
change the price, and what identifies the user.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from router.prompts.shapes import (
    LEFT_OUT,
    Either,
    Listed,
    Plain,
    Record,
    Shape,
    fields_of,
    flag,
    json_value,
    number,
    text,
    whole,
    word,
)
from schemas.errors import ContractError
from schemas.reasons import Reason
from schemas.request import Message

__all__ = ["ANTHROPIC", "CHAT_FIELDS", "GEMINI", "OPENAI", "OURS", "ChatFields", "check_messages"]

#: Set by us in every call: settings cannot add them to what a producer may set.
OURS = frozenset(
    {
        "model", "messages", "stream", "stream_options", "n", "max_tokens",
        "max_completion_tokens", "tools", "functions", "response_format",
    }
)  # fmt: skip
#: Values that are left out without a report: they ask for what is done anyway.
_UNREPORTED: Mapping[str, tuple[Any, ...]] = {"stream": (False,), "n": (1,)}
_LENGTHS = ("max_completion_tokens", "max_tokens")
#: The most paths that are reported.
_MOST_NAMED = 20
#: Bytes of a field that a provider's settings add.
_ADDED_BYTES = 16 * 1024
_SIGNATURE = 64 * 1024
_DESCRIPTION = 16 * 1024
#: Characters of a tool's name: for formats with other rules `conversations.py` changes names.
_NAME = 256


@dataclass(frozen=True, slots=True)
class ChatFields:
    """The fields of a chat body that one provider is sent."""

    body: Record
    #: Fields that the provider's settings add and that its format does not know.
    added: frozenset[str] = frozenset()

    def extended(self, paths: Collection[str]) -> "ChatFields":
        """These fields, and those that a provider's settings name by their dotted paths."""
        body: Shape = self.body
        for path in sorted(paths):
            body = body.extended(path, json_value(_ADDED_BYTES))
        assert isinstance(body, Record)  # noqa: S101  a record's extension is one
        names = {path.partition(".")[0] for path in paths}
        return ChatFields(body, frozenset(names - self.body.fields.keys()))

    def kept(self, body: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """The part of a chat body that is sent, and the sorted paths of what is left out."""
        left_out: set[str] = set()
        sent = self.body.kept(dict(body), "", left_out)
        sent = {} if sent is LEFT_OUT else sent
        _join_tools(sent, left_out)
        for name, harmless in _UNREPORTED.items():
            if body.get(name) in harmless:
                left_out.discard(name)
        left_out -= {"", "model"}
        paths = (path for path in sorted(left_out) if left_out.isdisjoint(_above(path)))
        named = list(islice(paths, _MOST_NAMED + 1))
        if len(named) > _MOST_NAMED:
            named[-1] = "and others"
        return sent, named


def _above(path: str) -> list[str]:
    """The paths above a path: the parts of a value that is left out are not reported."""
    steps = path.split(".")
    return [".".join(steps[:number]) for number in range(1, len(steps))]


def _join_tools(body: dict[str, Any], left_out: set[str]) -> None:
    """Leave out a tool choice whose tools are left out: a provider would refuse the call."""
    offered = {tool["function"]["name"] for tool in body.get("tools", ())}
    chosen = body.get("tool_choice")
    named = set()
    match chosen:
        case {"function": {"name": name}}:
            named = {name}
        case {"allowed_tools": {"tools": allowed}}:
            named = {tool["function"]["name"] for tool in allowed}
        case _:
            pass
    for name, is_possible in (
        ("tool_choice", bool(offered) and named <= offered),
        ("parallel_tool_calls", bool(offered)),
        ("function_call", bool(body.get("functions"))),
    ):
        if name in body and not is_possible:
            del body[name]
            left_out.add(name)


def _function() -> Record:
    return Record(
        {
            "name": text(_NAME),
            "description": text(_DESCRIPTION),
            "parameters": Plain(lambda value: isinstance(value, dict)),
            "strict": flag(),
        },
        frozenset(("name",)),
    )


def _tools() -> Mapping[str, Shape]:
    """Functions alone: tools of other types run at the provider, or call out from there."""
    chosen = Record(
        {"type": word("function"), "function": Record({"name": text(_NAME)}, _NAMED)}, _CHOSEN
    )
    allowed = Record(
        {"mode": word("auto", "required"), "tools": Listed(chosen, 128)},
        frozenset(("mode", "tools")),
    )
    return {
        "tools": Listed(Record({"type": word("function"), "function": _function()}, _CHOSEN), 128),
        "tool_choice": Either(
            {
                "str": word("none", "auto", "required", "any"),
                "function": chosen,
                "allowed_tools": Record(
                    {"type": word("allowed_tools"), "allowed_tools": allowed},
                    frozenset(("type", "allowed_tools")),
                ),
            },
            tag="type",
        ),
    }


_NAMED, _CHOSEN = frozenset(("name",)), frozenset(("type", "function"))
_ANY_TEXT = Plain(lambda value: isinstance(value, str))
_CONTENT = Either(
    {
        "str": _ANY_TEXT,
        "list": Listed(
            Record({"type": word("text"), "text": _ANY_TEXT}, frozenset(("type", "text"))), 10_000
        ),
    }
)
#: Providers demand an id, but a conversation without one is adapted, not refused.
_ID = Plain(lambda value: value is None or (isinstance(value, str) and len(value) <= 256))
_CALL = Record(
    {
        "id": _ID,
        "type": word("function"),
        "function": Record({"name": text(_NAME), "arguments": _ANY_TEXT}, _NAMED),
        # Gemini wants its signature back together with its call.
        "extra_content": Record({"google": Record({"thought_signature": text(_SIGNATURE)})}),
    },
    frozenset(("function",)),
)


def _messages(*roles: str, **more: Shape) -> Mapping[str, Shape]:
    return {role: Record({"role": word(role), "content": _CONTENT, **more}) for role in roles}


_MESSAGES = {
    **_messages("system", "developer", "user"),
    **_messages("assistant", tool_calls=Listed(_CALL, 1000), refusal=_ANY_TEXT),
    **_messages("tool", tool_call_id=_ID),
}
#: A message is sent with all of these fields or refused; only unknown fields are left out.
_NEEDED = {role: fields_of(message) for role, message in _MESSAGES.items()}
_EXPECTED: Mapping[str, str] = {
    "content": "text or at most 10,000 text parts were expected",
    "tool_calls": "at most 1,000 calls, each with a function, were expected",
    "id": "text of at most 256 characters was expected",
    "tool_call_id": "text of at most 256 characters was expected",
    "name": f"text of 1 to {_NAME} characters was expected",
    "type": "function was expected",
    "function": "an object with a name was expected",
}


def check_messages(messages: Sequence[Message]) -> None:
    """Refuse a conversation that could not be sent whole. Raises ContractError."""
    for no, message in enumerate(messages):
        if isinstance(message.content, str) and not message.model_extra:
            continue
        left_out = set[str]()
        fields = message.model_dump(exclude_unset=True)
        _MESSAGES[message.role].kept(fields, "", left_out)
        for path in sorted(left_out & _NEEDED[message.role]):
            expected = _EXPECTED.get(path.rpartition(".")[2], "text was expected")
            raise ContractError(Reason.INVALID_FIELD, f"input.messages.{no}.{path}: {expected}")


_COMMON: Mapping[str, Shape] = {
    **_tools(),
    "messages": Listed(Either(_MESSAGES, tag="role"), 1_000_000),
    # The policy limits an answer's length afterwards; a producer may ask for less.
    **dict.fromkeys(_LENGTHS, whole(1, 2**31 - 1)),
    "response_format": Either(
        {
            **{kind: Record({"type": word(kind)}) for kind in ("text", "json_object")},
            "json_schema": Record(
                {
                    "type": word("json_schema"),
                    "json_schema": Record(
                        {
                            "name": text(64, r"[A-Za-z0-9_-]+"),
                            "description": text(_DESCRIPTION),
                            "schema": Plain(lambda value: isinstance(value, dict)),
                            "strict": flag(),
                        },
                        frozenset(("schema",)),
                    ),
                },
                frozenset(("json_schema",)),
            ),
        },
        tag="type",
    ),
}


def _is_logit_bias(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= 300
        and all(name.isascii() and name.isdecimal() and len(name) <= 8 for name in value)
        and all(type(bias) in (int, float) and -100 <= bias <= 100 for bias in value.values())
    )


#: Chat completions: https://platform.openai.com/docs/api-reference/chat/create, read in 2026-11.
#: Left out of what it lists: `user`, `safety_identifier`, `metadata`, `store`, `prompt_cache_key`
#: and `prompt_cache_retention` (who asks, and what is kept), `service_tier`, `prediction`, `audio`,
#: `modalities` and `web_search_options` (the price), tools that are no functions, and `name`.
OPENAI = ChatFields(
    Record(
        {
            **_COMMON,
            "parallel_tool_calls": flag(),
            "functions": Listed(_function(), 128),
            "function_call": Either(
                {"str": word("none", "auto"), "dict": Record({"name": text(_NAME)}, _NAMED)}
            ),
            "temperature": number(0, 2),
            "top_p": number(0, 1),
            "presence_penalty": number(-2, 2),
            "frequency_penalty": number(-2, 2),
            "seed": whole(-(2**63), 2**63 - 1),
            "stop": Either({"str": text(512), "list": Listed(text(512), 4)}),
            "logit_bias": Plain(_is_logit_bias),
            "logprobs": flag(),
            "top_logprobs": whole(0, 20),
            "reasoning_effort": word("none", "minimal", "low", "medium", "high", "xhigh"),
            "verbosity": word("low", "medium", "high"),
        }
    )
)

#: Messages: https://docs.anthropic.com/en/api/messages, read in 2026-11. It has no seed, penalties
#: and probabilities, and its newer models refuse temperature and top_p.
ANTHROPIC = ChatFields(
    Record(
        {
            **_COMMON,
            "parallel_tool_calls": flag(),
            "stop": Either({"str": text(512), "list": Listed(text(512), 16)}),
            "reasoning_effort": word("low", "medium", "high", "xhigh", "max"),
        }
    )
)

#: generateContent: https://ai.google.dev/api/generate-content, read in 2026-11.
GEMINI = ChatFields(
    Record(
        {
            **_COMMON,
            "temperature": number(0, 2),
            "top_p": number(0, 1),
            "presence_penalty": number(-2, 2),
            "frequency_penalty": number(-2, 2),
            "seed": whole(-(2**31), 2**31 - 1),
            "stop": Either({"str": text(512), "list": Listed(text(512), 5)}),
            "logprobs": flag(),
            "top_logprobs": whole(0, 20),
        }
    )
)

#: By the names that a provider's settings use for its format.
CHAT_FIELDS: Mapping[str, ChatFields] = {"openai": OPENAI, "anthropic": ANTHROPIC, "gemini": GEMINI}

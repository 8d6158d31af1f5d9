"""Conversations rewritten to follow each wire format's rules, which are one table, `RULES`.

A conversation may have been held with other models: its tool calls have those models' ids and
names, its turns are blank where a model only called a tool, and some calls have no result. A
provider refuses a whole conversation for any of these. Which fields a chat body may have, and how
large, is in `router/prompts/chat_fields.py`.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from consumers.providers.parts import arguments_text
from consumers.providers.shapes import dicts_of
from router.reply.reply import Reply

__all__ = ["RULES", "Rules", "fitted_messages", "fitted_tools", "named_back"]

#: The fields of a chat body that name tools.
_NAMING = ("tools", "tool_choice", "functions", "function_call")
_NO_RESULT = "The call has no result."
_ORPHAN = "A tool's result: "


@dataclass(frozen=True, slots=True)
class Rules:
    """What one format demands of a conversation."""

    #: The publisher's documentation, and reports of errors that quote the rule.
    sources: tuple[str, ...]
    #: The characters that a tool call's id may have, and how many.
    id_characters: str
    id_length: int
    #: The same for a function's name.
    name_characters: str
    name_length: int
    #: False: a name has to begin with a letter or an underscore.
    name_begins_anyhow: bool
    #: True: text may be white space alone.
    takes_blank: bool
    #: True: the first and the last turn have to be the user's, or some models refuse them.
    user_frames: bool
    #: True: ids have to be unique in the whole conversation, not only in their turn.
    ids_differ: bool


#: As documented in 2026-11. In all three formats each call has one result, right after the calls.
RULES: Mapping[str, Rules] = {
    "openai": Rules(
        sources=(
            "https://platform.openai.com/docs/api-reference/chat/create",
            "https://github.com/microsoft/autogen/issues/6377",
        ),
        id_characters=r"[^\x00-\x1f]",
        id_length=40,
        name_characters=r"[A-Za-z0-9_-]",
        name_length=64,
        name_begins_anyhow=True,
        takes_blank=True,
        user_frames=False,
        ids_differ=False,
    ),
    "anthropic": Rules(
        sources=(
            "https://docs.anthropic.com/en/api/messages",
            "https://github.com/anthropics/claude-code/issues/23369",
            "https://github.com/BerriAI/litellm/issues/21114",
        ),
        id_characters=r"[A-Za-z0-9_-]",
        id_length=256,
        name_characters=r"[A-Za-z0-9_-]",
        name_length=128,
        name_begins_anyhow=True,
        takes_blank=False,
        user_frames=True,
        ids_differ=True,
    ),
    "gemini": Rules(
        sources=(
            "https://ai.google.dev/api/caching#FunctionDeclaration",
            "https://ai.google.dev/gemini-api/docs/function-calling",
            "https://github.com/google-gemini/gemini-cli/issues/6379",
        ),
        id_characters=r"[^\x00-\x1f]",
        id_length=256,
        name_characters=r"[A-Za-z0-9_.:-]",
        name_length=64,
        name_begins_anyhow=False,
        takes_blank=False,
        user_frames=True,
        ids_differ=False,
    ),
}


def fitted_messages(messages: Sequence[Any], rules: Rules) -> list[dict[str, Any]]:
    """Messages in the OpenAI form that follow the rules of the format they are for.

    Ids and names that do not fit are replaced, the same one always by the same. Results come
    right after their calls: a call without a result gets a text that says so, and a result without
    its call becomes the user's text. Blank text is left out where the format does not take it.
    """
    fitted: list[dict[str, Any]] = []
    conversation_ids: dict[str, int] = {}
    placed: set[int] = set()
    given = dicts_of(messages)
    for index, message in enumerate(given):
        if index in placed:
            continue
        role, content = message.get("role"), _content(message.get("content"), rules)
        if role == "assistant" and message.get("tool_calls"):
            turn = {**message, "content": content, "tool_calls": []}
            fitted.append(turn)
            results_by_id = _results(given, index, placed)
            used_ids = conversation_ids if rules.ids_differ else dict[str, int]()
            calls = dicts_of(message["tool_calls"])
            calls_left = Counter(map(_id_of, calls))
            for call in calls:
                old_id = _id_of(call)
                new_id = _new_id(old_id, used_ids, rules)
                calls_left[old_id] -= 1
                # Where several calls share an id, the last one gets all results that are left.
                results = results_by_id.get(old_id, [])
                own_results = results[:1] if calls_left[old_id] else list(results)
                del results[: len(own_results)]
                turn["tool_calls"].append(_called(call, new_id, rules))
                text = "\n".join(own_results) if own_results else _NO_RESULT
                fitted.append({"role": "tool", "tool_call_id": new_id, "content": text})
        elif role == "tool":
            fitted.append({"role": "user", "content": f"{_ORPHAN}{_text(content)}"})
        elif content or (content == "" and rules.takes_blank) or message.get("refusal"):
            fitted.append({**message, "content": content})
    return fitted


def fitted_tools(body: Mapping[str, Any], rules: Rules) -> Mapping[str, Any]:
    """A chat body whose tools, and the choice among them, have names that fit the format."""
    if not _renamed(body, rules):
        return body
    naming = {field: body[field] for field in _NAMING if field in body}
    return {**body, **_with_names(naming, lambda name: _fitted_name(name, rules))}


def named_back(reply: Reply, body: Mapping[str, Any], rules: Rules) -> Reply:
    """The reply with the names of its tool calls as the body has them."""
    if names := _renamed(body, rules):
        for call in reply.tool_calls:
            if isinstance(function := call.get("function"), dict):
                function["name"] = names.get(function.get("name"), function.get("name"))
    return reply


def _renamed(body: Mapping[str, Any], rules: Rules) -> dict[Any, str]:
    """The body's own name of each tool whose name does not fit, by the name that does."""
    tools = [tool.get("function") for tool in dicts_of(body.get("tools"))]
    functions = dicts_of([*tools, *dicts_of(body.get("functions"))])
    names = {str(function.get("name") or "") for function in functions}
    return {new: name for name in names if name and (new := _fitted_name(name, rules)) != name}


def _with_names(value: Any, fitted: Callable[[str], str]) -> Any:
    """Fields of a chat body that name tools, with fitted names; schemas stay as they are."""
    if isinstance(value, list):
        return [_with_names(item, fitted) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        field: fitted(inner)
        if field == "name" and isinstance(inner, str)
        else inner
        if field == "parameters"
        else _with_names(inner, fitted)
        for field, inner in value.items()
    }


def _results(
    given: Sequence[Mapping[str, Any]], turn: int, placed: set[int]
) -> dict[str, list[str]]:
    """The results of a turn's calls by the calls' ids; their indices are added to `placed`.

    They come before the assistant's next turn.
    """
    ids = {_id_of(call) for call in dicts_of(given[turn]["tool_calls"])}
    results: dict[str, list[str]] = {}
    for index in range(turn + 1, len(given)):
        message = given[index]
        if message.get("role") == "assistant":
            break
        call_id = str(message.get("tool_call_id") or "")
        if message.get("role") == "tool" and call_id in ids:
            results.setdefault(call_id, []).append(_text(message.get("content")))
            placed.add(index)
    return results


def _id_of(call: Mapping[str, Any]) -> str:
    return str(call.get("id") or "")


def _new_id(old_id: str, used_ids: dict[str, int], rules: Rules) -> str:
    """An id that fits and that no other call has; `used_ids` gains it.

    `used_ids` remembers how many calls have had each id, so that calls of the same id are numbered
    on, and the search does not begin at 1 for each of them.
    """
    first = new_id = _fitted(old_id, rules.id_characters, rules.id_length)
    number = used_ids.get(first, 0)
    while new_id in used_ids:
        number += 1
        new_id = _fitted(f"{old_id}_{number}", rules.id_characters, rules.id_length)
    used_ids[first] = max(number, 1)
    used_ids.setdefault(new_id, 1)
    return new_id


def _called(call: Mapping[str, Any], call_id: str, rules: Rules) -> dict[str, Any]:
    """A call with an id, a name and arguments that fit."""
    function = call.get("function")
    if not isinstance(function, dict):
        return {**call, "id": call_id}
    name = _fitted_name(str(function.get("name") or ""), rules)
    arguments = arguments_text(function.get("arguments"))
    fitted = {**function, "name": name, "arguments": arguments}
    return {**call, "id": call_id, "function": fitted}


def _fitted_name(name: str, rules: Rules) -> str:
    fitted = _fitted(name, rules.name_characters, rules.name_length)
    if rules.name_begins_anyhow or re.match(r"[A-Za-z_]", fitted):
        return fitted
    return f"_{_fitted(name, rules.name_characters, rules.name_length - 1)}"


def _fitted(text: str, characters: str, max_length: int) -> str:
    """The text itself where it fits; else what fits of it, and a hash that keeps it unique."""
    if 0 < len(text) <= max_length and re.fullmatch(f"(?:{characters})+", text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    plain = re.sub(f"(?!{characters}).", "_", text[: max_length - 9], flags=re.DOTALL)
    return f"{plain}_{digest}"


def _content(content: Any, rules: Rules) -> Any:
    """The content without empty texts, and without blank ones by the rules; None if all were."""
    if isinstance(content, list):
        parts = [
            part
            for part in content
            if not (isinstance(part, dict) and part.get("type") == "text" and not part.get("text"))
        ]
        if not rules.takes_blank:
            parts = [part for part in parts if not _is_blank(part)]
        return parts or None
    if isinstance(content, str) and not rules.takes_blank and not content.strip():
        return None
    return content


def _is_blank(part: Any) -> bool:
    text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else part
    return isinstance(text, str) and not text.strip()


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    texts = [part.get("text") for part in dicts_of(content)]
    return "\n".join(text for text in texts if isinstance(text, str))

"""Conversations as each wire format wants them: what its publisher says, as a table.

A conversation may have been held with other models: its tool calls carry their ids and names, its
turns are blank where a model only called, and not every call has been answered. A provider refuses
the whole of it for that. Fields, their sizes and their number are in
`router/prompts/chat_fields.py`.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from router.judge.reply import Reply

__all__ = ["RULES", "Rules", "fitted_messages", "fitted_tools", "named_back"]

#: Where a chat body names its tools.
_NAMING = ("tools", "tool_choice", "functions", "function_call")
_NO_RESULT = "The call has no result."
_ORPHAN = "A tool's result: "


@dataclass(frozen=True, slots=True)
class Rules:
    """What one format asks of a conversation."""

    #: Where its publisher says so, and errors that quote the rule.
    sources: tuple[str, ...]
    #: Of a tool call's id: its characters, and how many.
    id_characters: str
    id_length: int
    #: Of a function's name.
    name_characters: str
    name_length: int
    #: False: a name begins with a letter or an underscore.
    name_begins_anyhow: bool
    #: Whether text of white space alone is text.
    takes_blank: bool
    #: Whether the user speaks first and last; another's turn there is refused by some models.
    user_frames: bool
    #: An id is used once in the whole conversation, not only in its turn.
    ids_differ: bool


#: Read in 2026-11. In all three formats every call has one result, right after the calls.
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
    """Messages in the OpenAI form that hold to the rules of the format they are for.

    Ids and names that do not fit are replaced, the same one always by the same. Results stand
    right behind their calls; a call without one gets a word that says so, a result without its
    call is something the user says. What is blank is left out where it is no text.
    """
    made: list[dict[str, Any]] = []
    everywhere: dict[str, int] = {}
    taken: set[int] = set()
    given = [one for one in messages if isinstance(one, dict)]
    for no, message in enumerate(given):
        if no in taken:
            continue
        role, content = message.get("role"), _said(message.get("content"), rules)
        if role == "assistant" and message.get("tool_calls"):
            turn = {**message, "content": content, "tool_calls": []}
            made.append(turn)
            results = _results(given, no, taken)
            used = everywhere if rules.ids_differ else dict[str, int]()
            calls = [one for one in message["tool_calls"] if isinstance(one, dict)]
            left = Counter(_id_of(one) for one in calls)
            for call in calls:
                before = _id_of(call)
                after = _new_id(before, used, rules)
                left[before] -= 1
                # Where several calls have one id, the last has all results that are left.
                said = results.get(before, [])
                mine = said[:1] if left[before] else list(said)
                del said[: len(mine)]
                turn["tool_calls"].append(_called(call, after, rules))
                words = "\n".join(mine) if mine else _NO_RESULT
                made.append({"role": "tool", "tool_call_id": after, "content": words})
        elif role == "tool":
            words = f"{_ORPHAN}{_text(content)}"
            made.append({"role": "user", "content": words})
        elif content or (content == "" and rules.takes_blank) or message.get("refusal"):
            made.append({**message, "content": content})
    return made


def fitted_tools(body: Mapping[str, Any], rules: Rules) -> Mapping[str, Any]:
    """A chat body whose tools, and the choice among them, have names that fit the format."""
    if not _renamed(body, rules):
        return body
    told = {name: body[name] for name in _NAMING if name in body}
    return {**body, **_with_names(told, lambda name: _fitted_name(name, rules))}


def named_back(reply: Reply, body: Mapping[str, Any], rules: Rules) -> Reply:
    """The reply with its calls under the names by which the body offers its tools."""
    if names := _renamed(body, rules):
        for call in reply.tool_calls:
            if isinstance(function := call.get("function"), dict):
                function["name"] = names.get(function.get("name"), function.get("name"))
    return reply


def _renamed(body: Mapping[str, Any], rules: Rules) -> dict[Any, str]:
    """The names that tools are offered under, where those are not their own."""
    tools = [one.get("function") for one in body.get("tools") or () if isinstance(one, dict)]
    functions = (one for one in (*tools, *(body.get("functions") or ())) if isinstance(one, dict))
    names = {str(one.get("name") or "") for one in functions}
    return {other: name for name in names if name and (other := _fitted_name(name, rules)) != name}


def _with_names(value: Any, fitted: Callable[[str], str]) -> Any:
    """Fields of a chat body that name tools, with other names; schemas are not looked into."""
    if isinstance(value, list):
        return [_with_names(one, fitted) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        name: fitted(one)
        if name == "name" and isinstance(one, str)
        else one
        if name == "parameters"
        else _with_names(one, fitted)
        for name, one in value.items()
    }


def _results(given: Sequence[Mapping[str, Any]], at: int, taken: set[int]) -> dict[str, list[str]]:
    """The results of the calls of a turn, which stand before the assistant speaks again."""
    ids = {_id_of(one) for one in given[at]["tool_calls"] if isinstance(one, dict)}
    results: dict[str, list[str]] = {}
    for no in range(at + 1, len(given)):
        if given[no].get("role") == "assistant":
            break
        call = str(given[no].get("tool_call_id") or "")
        if given[no].get("role") == "tool" and call in ids:
            results.setdefault(call, []).append(_text(given[no].get("content")))
            taken.add(no)
    return results


def _id_of(call: Mapping[str, Any]) -> str:
    return str(call.get("id") or "")


def _new_id(before: str, used: dict[str, int], rules: Rules) -> str:
    """An id that fits and that no other call has.

    `used` has each id with how many calls have come under it, and gains this one: however many
    calls have the same id, none is counted twice.
    """
    first = after = _fitted(before, rules.id_characters, rules.id_length)
    times = used.get(first, 0)
    while after in used:
        times += 1
        after = _fitted(f"{before}_{times}", rules.id_characters, rules.id_length)
    used[first] = max(times, 1)
    used.setdefault(after, 1)
    return after


def _called(call: Mapping[str, Any], call_id: str, rules: Rules) -> dict[str, Any]:
    """A call with an id and a name that fit."""
    function = call.get("function")
    if not isinstance(function, dict):
        return {**call, "id": call_id}
    name = _fitted_name(str(function.get("name") or ""), rules)
    return {**call, "id": call_id, "function": {**function, "name": name}}


def _fitted_name(name: str, rules: Rules) -> str:
    fitted = _fitted(name, rules.name_characters, rules.name_length)
    if rules.name_begins_anyhow or re.match(r"[A-Za-z_]", fitted):
        return fitted
    return f"_{_fitted(name, rules.name_characters, rules.name_length - 1)}"


def _fitted(text: str, characters: str, most: int) -> str:
    """The text itself where it fits; else what fits of it with a mark of its own behind it."""
    if 0 < len(text) <= most and re.fullmatch(f"(?:{characters})+", text):
        return text
    mark = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    plain = re.sub(f"(?!{characters}).", "_", text[: most - 9], flags=re.DOTALL)
    return f"{plain}_{mark}"


def _said(content: Any, rules: Rules) -> Any:
    """The content without parts that are no text; None where nothing is left."""
    if isinstance(content, list):
        parts = [
            one
            for one in content
            if not (isinstance(one, dict) and one.get("type") == "text" and not one.get("text"))
        ]
        if not rules.takes_blank:
            parts = [one for one in parts if not _is_blank(one)]
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
    parts = content if isinstance(content, list) else []
    said = [one.get("text") for one in parts if isinstance(one, dict)]
    return "\n".join(one for one in said if isinstance(one, str))

"""Trimming: a request with no more context than a budget allows, the oldest left out first.

What the producer sent stays as it is: only what is rendered of it becomes shorter. The same request
and budget always give the same context.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from router.request.signals import context_tokens, message_tokens
from router.request.tokens import estimate_tokens
from schemas.request import Message, Request

__all__ = ["trimmed"]

#: What can be trimmed, in the order in which it is where the whole is too long.
_COMPONENTS = ("history", "retrieved", "tools")


def trimmed(request: Request, most: Mapping[str, int]) -> Request:
    """The request with at most so many tokens of each component, as far as that is possible.

    History and tool results lose their beginning, retrieved text its end. Of a conversation, the
    instructions, the last user message and the newest message stay, and a tool call stays together
    with its results. For `total`, each component is trimmed in turn.
    """
    for limited, components in (*((name, (name,)) for name in _COMPONENTS), ("total", _COMPONENTS)):
        for name in components if limited in most else ():
            request = _shorter(request, name, limited, most[limited])
    return request


def _shorter(request: Request, name: str, limited: str, most: int) -> Request:
    """The request with less of one component, until `limited` has at most so many tokens."""
    tokens, text = context_tokens(request, request.text), getattr(request.context, name)
    excess = (sum(tokens.values()) if limited == "total" else tokens.get(limited, 0)) - most
    if excess > 0 and text:
        written = estimate_tokens(text)
        room = max(written - excess, 0)
        kept = _end(text[::-1], room)[::-1] if name == "retrieved" else _end(text, room)
        request = _changed(request, context=request.context.model_copy(update={name: kept}))
        excess -= written - estimate_tokens(kept)
    if excess <= 0 or name != "history":
        return request
    return _newest(request, excess, _freed if limited == "total" else message_tokens)


def _end(text: str, tokens: int) -> str:
    """The end of a text in at most so many tokens, from the beginning of a line or a word on."""
    if text.isascii():
        end = text[max(len(text) - 4 * tokens, 0) :]
    else:
        written = text.encode("utf-8", "surrogatepass")
        end = written[max(len(written) - 3 * tokens, 0) :].decode("utf-8", "ignore")
    if len(end) == len(text):
        return text
    for gap in ("\n", " "):
        whole = end.partition(gap)[2]
        if 2 * len(whole) >= len(end):
            return whole
    return end


def _newest(request: Request, excess: int, freed: Callable[[Message], int]) -> Request:
    """The request without as many of its oldest messages as free so many tokens."""
    dropped: set[int] = set()
    for group in _droppable(request.messages):
        if excess <= 0:
            break
        dropped.update(group)
        excess -= sum(freed(request.messages[no]) for no in group)
    kept = [message for no, message in enumerate(request.messages) if no not in dropped]
    return _changed(request, input=request.input.model_copy(update={"messages": kept}))


def _freed(message: Message) -> int:
    """At least how many tokens a message frees: what users say is counted together."""
    spoken = estimate_tokens(message.text) - 1 if message.role == "user" else 0
    return message_tokens(message) + max(spoken, 0)


def _droppable(messages: Sequence[Message]) -> list[list[int]]:
    """The places of the messages that may go, the oldest first: a call's with its results'."""
    groups: list[list[int]] = []
    by_call: dict[str, list[int]] = {}
    for no, message in enumerate(messages):
        if message.role in ("system", "developer"):
            continue
        more = message.model_extra or {}
        if message.role == "tool" and groups:
            by_call.get(str(more.get("tool_call_id")), groups[-1]).append(no)
            continue
        groups.append([no])
        calls = more.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            if isinstance(call, Mapping):
                by_call[str(call.get("id"))] = groups[-1]
    users = [no for no, message in enumerate(messages) if message.role == "user"]
    kept = {len(messages) - 1, *users[-1:]}
    return [group for group in groups if kept.isdisjoint(group)]


def _changed(request: Request, **fields: Any) -> Request:
    changed = request.model_copy(update=fields)
    # Kept of the former messages.
    changed.__dict__.pop("text", None)
    return changed

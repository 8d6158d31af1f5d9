"""What checks look at: the reply, and the facts of the request."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from router.checks import words
from router.json_schemas.validator import Validator
from router.reply.normalise import MOST_VALUES
from router.reply.reply import Reply
from router.request.languages import EMPTY_WORDS, language_of, words_of
from router.request.request_schemas import tool_validators
from router.rows import Row
from schemas.json_numbers import read_exact
from schemas.json_text import has_more_values
from schemas.reasons import Reason
from schemas.request import Request

__all__ = ["Asked", "Check", "Judged", "Parameters"]


class Parameters(Row):
    """What a policy may set of a check."""


@dataclass(frozen=True)
class Asked:
    """The facts of a request, each computed when a check first asks for it, and kept."""

    request: Request

    @cached_property
    def question(self) -> str:
        """What the user says."""
        return self.request.text

    @cached_property
    def _messages(self) -> Sequence[tuple[str, str]]:
        """Role and text of each message."""
        return [(message.role, message.text) for message in self.request.messages]

    @cached_property
    def length(self) -> int:
        """Characters of the messages and the context together."""
        context = self.request.context
        parts = (context.system, context.user, context.retrieved, context.history, context.tools)
        characters = sum(len(text) for _, text in self._messages)
        return characters + sum(map(len, parts))

    @cached_property
    def sources(self) -> Sequence[str]:
        """What an answer may be based on, in blocks: the context, else what the user says."""
        context = self.request.context
        given = [context.retrieved, context.user, context.tools, context.history]
        given += [text for role, text in self._messages if role == "tool"]
        texts = [text for text in given if text] or [self.question]
        return [block for text in texts for block in text.split("\n\n") if block.strip()]

    @cached_property
    def given_text(self) -> str:
        """All that the model was told, instructions included, in lower case."""
        texts = [text for _, text in self._messages]
        return "\n".join((*texts, *self.sources, self.request.context.system)).lower()

    @cached_property
    def source_text(self) -> str:
        """The sources and the question, in lower case, with single spaces."""
        return " ".join(" ".join((*self.sources, self.question)).lower().split())

    @cached_property
    def source_markers(self) -> AbstractSet[int]:
        """The numbers that the sources and the question write as markers such as [1]."""
        return frozenset(words.markers(self.source_text))

    @cached_property
    def known_words(self) -> frozenset[str]:
        """The words of the sources and the question, and the empty words."""
        return EMPTY_WORDS.union(words_of(self.source_text).replace(".", " ").split())

    @cached_property
    def known_stems(self) -> frozenset[str]:
        """The stems of `known_words`, the empty words left out."""
        return words.stems(self.known_words - EMPTY_WORDS)

    @cached_property
    def numbers(self) -> frozenset[str]:
        """Every number that the model was told, in each way it can be read."""
        return words.numbers_of(self.given_text)

    @cached_property
    def spelled(self) -> frozenset[str]:
        """The numbers that the model was told in words."""
        return words.spelled_numbers(self.given_text)

    @cached_property
    def language(self) -> str | None:
        """The language of the question; None when that is not certain."""
        return language_of(self.question)

    @cached_property
    def most_citation(self) -> int:
        """The highest number that a source has: its own marker, else its place."""
        return max(words.source_markers("\n\n".join(self.sources)), default=len(self.sources))

    @cached_property
    def conflicts(self) -> Sequence[tuple[str, str]]:
        """Pairs of numbers or dates that the sources state for what seems to be the same thing."""
        return words.conflicts(self.sources)

    @cached_property
    def tools(self) -> Mapping[str, Validator | None]:
        """The tools the producer offers; None for one whose schema cannot be used."""
        return tool_validators(self.request)

    @cached_property
    def must_call(self) -> bool:
        """True when the request demands a tool call, and offers a tool that can be called."""
        if not self.tools:
            return False
        match self._tool_choice:
            case "required" | "any" | {"function": {"name": str()}}:
                return True
            case {"type": "allowed_tools", "allowed_tools": {"mode": "required"}}:
                return True
            case _:
                return False

    @cached_property
    def callable_tools(self) -> AbstractSet[str] | None:
        """The names that may be called; None where any offered tool may be."""
        match self._tool_choice:
            case "none":
                return frozenset()
            case {"function": {"name": str(name)}}:
                return frozenset((name,))
            case {"type": "allowed_tools", "allowed_tools": {"tools": [*allowed]}}:
                functions = _dicts([tool.get("function") for tool in _dicts(allowed)])
                return frozenset(str(function.get("name")) for function in functions)
            case _:
                return None

    @cached_property
    def is_one_call(self) -> bool:
        """True when the request forbids several calls at once."""
        return (self.request.input.model_extra or {}).get("parallel_tool_calls") is False

    @property
    def _tool_choice(self) -> Any:
        return (self.request.input.model_extra or {}).get("tool_choice")


@dataclass(frozen=True)
class Judged:
    """A reply, ready to be checked."""

    reply: Reply
    #: The normalised answer; None when the reply could not be brought into the task's format.
    output: Mapping[str, Any] | None
    #: None for plain text.
    validator: Validator | None
    #: How sure the model is, 0 to 1; None when that is not known.
    confidence: float | None
    #: The least confidence to accept; None where nothing says how sure the model is.
    accept: float | None
    asked: Asked
    #: True when the reply is a call of tools that the producer offered.
    calls_tools: bool = False

    @cached_property
    def answer_text(self) -> str:
        """The answer in words: the field `answer`, else every text of the answer."""
        if self.calls_tools or self.output is None:
            return self.reply.text
        answer = self.output.get("answer")
        return answer if isinstance(answer, str) else self.written

    @cached_property
    def written(self) -> str:
        """Every text and number of the answer, those in the arguments of tool calls included."""
        if self.calls_tools:
            calls = [_arguments(call) for call in self.reply.tool_calls]
            return "\n".join((self.reply.text, *_leaves(calls)))
        if self.output is None:
            return self.reply.text
        return "\n".join(_leaves({k: v for k, v in self.output.items() if k != "confidence"}))

    @cached_property
    def argument_names(self) -> str:
        """The names that tool calls give their arguments, at any depth, a line each."""
        if not self.calls_tools:
            return ""
        return "\n".join(_keys([_arguments(call) for call in self.reply.tool_calls]))

    @cached_property
    def lower(self) -> str:
        return self.answer_text.lower()


@dataclass(frozen=True, slots=True)
class Check:
    """One test of a reply. `run` returns None when it passes, else what is wrong, in words.

    The words never repeat the reply: they are written to the ledger, which does not quote.
    """

    name: str
    reason: Reason
    meaning: str
    #: What fails it, for example.
    example: str
    run: Callable[[Judged, Any], str | None]
    #: What a policy may set, handed to `run`.
    parameters: type[Parameters] = Parameters
    #: The parts of an answer that fail it, to be marked for a person; None: it is about the whole.
    parts: Callable[[Judged, Any], Collection[str]] | None = None


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _arguments(call: Mapping[str, Any]) -> Any:
    match call:
        case {"function": {"arguments": str(text)}}:
            try:
                # Arguments with very many values would take long to walk: they count as one text.
                is_long = has_more_values(text.encode("utf-8", "replace"), MOST_VALUES)
                return text if is_long else read_exact(text)
            except (RecursionError, ValueError):
                return text
        case _:
            return None


def _leaves(value: Any) -> Iterator[str]:
    """The texts and numbers in a JSON value, in order; without recursion, whatever its depth."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, (int, float)) and not isinstance(item, bool):
            yield str(item)
        elif isinstance(item, Mapping):
            stack.extend(reversed(list(item.values())))
        elif isinstance(item, list):
            stack.extend(reversed(item))


def _keys(value: Any) -> Iterator[str]:
    """The names of fields in a JSON value."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, Mapping):
            yield from item
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)

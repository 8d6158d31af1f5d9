"""The request: one piece of LLM work, as the client asked for it."""

from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from schemas.base import Contract, Deadline, Identifier, Name
from schemas.tenancy import DEFAULT_TENANT, RequestKey

__all__ = ["ChatBody", "Complexity", "Context", "Message", "Request", "TextPart"]

Fraction = Annotated[float, Field(ge=0, le=1)]
Complexity = Annotated[int, Field(ge=1, le=5)]


class TextPart(Contract):
    """A text part of a message. Other kinds of parts are refused before this model is built."""

    type: Literal["text"]
    text: str


class Message(Contract):
    """One chat message in the OpenAI shape."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[TextPart], Field(fail_fast=True)] | None = None

    @property
    def text(self) -> str:
        """The text of the message, its parts joined by line ends."""
        if isinstance(self.content, str):
            return self.content

        return "\n".join(part.text for part in self.content or ())


class ChatBody(Contract):
    """An OpenAI chat body. Fields that we do not read are sent if a provider's format has them."""

    messages: Annotated[list[Message], Field(fail_fast=True, min_length=1)]


def _as_chat_body(value: Any) -> Any:
    if isinstance(value, str):
        return {"messages": [{"role": "user", "content": value}]}

    return {"messages": value} if isinstance(value, list) else value


def _join(value: Any) -> Any:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "\n\n".join(value)

    return value


Text = Annotated[str, BeforeValidator(_join, json_schema_input_type=str | list[str])]


class Context(Contract):
    """What the model should know beside the input: texts by component."""

    system: Text = ""
    user: Text = ""
    retrieved: Text = ""
    history: Text = ""
    tools: Text = ""


class Request(Contract):
    """One piece of LLM work. Only an input is always required; a task where nothing classifies."""

    id: Identifier = ""
    version: Literal[1] = 1
    task: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")] | None = None
    input: Annotated[
        ChatBody,
        BeforeValidator(_as_chat_body, json_schema_input_type=str | list[Message] | ChatBody),
    ]
    #: The id the producer knows the request by, when it came as a Batch line.
    custom_id: Name | None = None
    plan: Name | None = None
    tenant: Identifier = DEFAULT_TENANT
    user: Annotated[str, Field(max_length=256)] | None = None
    workflow: Annotated[str, Field(max_length=256)] | None = None
    conversation_id: Identifier | None = None
    lane: Literal["interactive", "standard", "bulk"] = "standard"
    #: From 0 (clear) to 1 (ambiguous). Estimated from the text when absent.
    ambiguity: Fraction | None = None
    #: How bad a wrong answer would be. Estimated from the text when absent.
    blast_radius: Literal["low", "medium", "high"] | None = None
    complexity: Complexity | None = None
    context: Context = Context()
    #: `text`, `json`, or a JSON Schema that replaces the one of the task.
    output_format: Literal["text", "json"] | dict[str, Any] | None = None
    #: Why a plan that asks for one may use the premium tier.
    justification: str | None = None
    #: May only shorten the deadline that the policy sets.
    deadline: Deadline | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)

    @property
    def key(self) -> RequestKey:
        return RequestKey(self.tenant, self.id)

    @property
    def messages(self) -> Sequence[Message]:
        return self.input.messages

    @cached_property
    def text(self) -> str:
        """What the user says: the text of the user's messages, or of all when there are none."""
        if len(self.messages) == 1:
            return self.messages[0].text

        texts = [message.text for message in self.messages if message.role == "user"]
        return "\n".join(texts or [message.text for message in self.messages])

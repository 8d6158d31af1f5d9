"""The examples of prompts, which test them: a possible reply and the expected verdict."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, Field, ValidationError

from router.errors import PromptError, did_you_mean
from router.policy.table import Policy
from router.policy.yaml_text import read_yaml
from router.prompts.files import DEFAULT, explained
from router.prompts.rendering import PASSTHROUGH, Prompts, Rendered
from router.reply.reply import FinishReason, Reply
from router.reply.thoughts import without_thoughts
from router.request.tokens import estimate_tokens
from router.rows import Row, TierName
from schemas.base import Tier
from schemas.reasons import Reason
from schemas.usage import Usage
from schemas.verdict import Verdict

__all__ = ["Placed", "PromptExample", "Tried", "compare", "read_examples", "reply_of", "unshown"]

ACCEPTED = "accepted"


def _check_outcome(value: str) -> str:
    if value not in (ACCEPTED, *Reason):
        msg = f"accepted, or a reason code{did_you_mean(value, [ACCEPTED, *Reason])}"
        raise ValueError(msg)
    return value


class PromptExample(Row):
    """One request, one reply that a model might give, and what is expected of both."""

    #: What the example shows.
    says: Annotated[str, Field(min_length=3)]
    #: As a producer would send it, without its task.
    request: Annotated[dict[str, Any], Field(min_length=1)]
    #: The tiers whose variants it is for; None: every tier of the policy.
    tiers: list[TierName] | None = None
    #: The reply as text, or as the fields of its JSON object.
    reply: str | dict[str, Any]
    finish: FinishReason = "stop"
    #: Only for prompts that read answers: the answer to be read.
    answer: dict[str, Any] | None = None
    #: `accepted`, or the reason of the check that the reply must fail.
    expect: Annotated[str, AfterValidator(_check_outcome)] = ACCEPTED
    #: Fields that the normalised answer must have, with their values.
    output: dict[str, Any] = Field(default_factory=dict)
    #: Words that the model must be told, and words it must not.
    prompt_holds: list[str] = Field(default_factory=list)
    prompt_lacks: list[str] = Field(default_factory=list)
    #: The most tokens the prompt may take, as estimated.
    most_tokens: Annotated[int, Field(ge=1)] | None = None


@dataclass(frozen=True, slots=True)
class Placed:
    """An example and its place."""

    folder: str
    #: `file:line`.
    where: str
    example: PromptExample

    def tiers(self, policy: Policy) -> Sequence[Tier]:
        """The tiers whose variants it tries."""
        return self.example.tiers or list(policy.tiers)


@dataclass(frozen=True, slots=True)
class Tried:
    """What became of an example with one variant."""

    where: str
    folder: str
    tier: Tier
    says: str
    version: str
    #: `accepted`, or a reason.
    outcome: str
    tokens: int
    problems: list[str] = field(default_factory=list)


def read_examples(files: Mapping[str, str]) -> Iterator[Placed]:
    """The examples of every `<task>/examples.yaml`, in order.

    Raises PromptError with every problem of the first file that has one, as `file:line: what`.
    """
    for path in sorted(files):
        folder, _, name = path.rpartition("/")
        if name == "examples.yaml" and folder:
            yield from _read(folder, path, files[path])


def _read(folder: str, path: str, text: str) -> Iterator[Placed]:
    value, lines, problems = read_yaml(text)
    if not problems and not isinstance(value, list):
        msg = f"{path}:1: a list of examples was expected"
        raise PromptError(msg)
    messages = [problem.at(path) for problem in problems]
    examples = []
    for index, row in enumerate(value or ()):
        here = {steps[1:]: line for steps, line in lines.items() if steps[:1] == (index,)}
        try:
            example = PromptExample.model_validate(row)
        except ValidationError as error:
            messages += explained(error, PromptExample, path, here)
            continue
        examples.append(Placed(folder, f"{path}:{here[()]}", example))
    if messages:
        raise PromptError("\n".join(messages))
    yield from examples


def reply_of(example: PromptExample) -> Reply:
    reply = example.reply
    text = without_thoughts(reply)[0] if isinstance(reply, str) else orjson.dumps(reply).decode()
    message = {"role": "assistant", "content": text}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": example.finish}]}
    return Reply(text, example.finish, Usage(), body)


def compare(placed: Placed, tier: Tier, rendered: Rendered, verdict: Verdict) -> Tried:
    """The outcome of an example, with every difference from what it expects."""
    example = placed.example
    prompt = "\n".join(str(message.get("content") or "") for message in rendered.messages)
    tokens, failed = estimate_tokens(prompt), verdict.failed
    outcome = failed.reason.value if failed and failed.reason else ACCEPTED
    problems = []
    if outcome != example.expect:
        detail = f" ({failed.detail})" if failed else ""
        problems.append(f"{example.expect} was expected, found {outcome}{detail}")
    problems += [f"the prompt does not hold {w!r}" for w in example.prompt_holds if w not in prompt]
    problems += [f"the prompt holds {words!r}" for words in example.prompt_lacks if words in prompt]
    if example.most_tokens is not None and tokens > example.most_tokens:
        problems.append(f"the prompt takes {tokens} tokens; {example.most_tokens} are the most")
    output = verdict.output or {}
    problems += [
        f"{name} is {output.get(name)!r}; {value!r} was expected"
        for name, value in example.output.items()
        if output.get(name) != value or name not in output
    ]
    if rendered.version == PASSTHROUGH:
        problems.append(f"there is no prompt for {tier}: the request is passed through")
    return Tried(
        where=placed.where,
        folder=placed.folder,
        tier=tier,
        says=example.says,
        version=rendered.version,
        outcome=outcome,
        tokens=tokens,
        problems=problems,
    )


def unshown(examples: Sequence[Placed], prompts: Prompts, policy: Policy) -> Iterator[str]:
    """Prompts in use without an example, and examples of none, as `file:line: what`."""
    in_use = {name for name in policy.tasks if name in prompts.contracts}
    in_use |= {task.verify.prompt for task in policy.tasks.values() if task.verify}
    in_use |= {"classify"} if policy.classify else set()
    shown = {(placed.folder, tier) for placed in examples for tier in placed.tiers(policy)}
    for name in sorted(in_use):
        missing = [tier.value for tier in policy.tiers if (name, tier) not in shown]
        if missing:
            yield f"{name}/contract.yaml:1: no example for {', '.join(missing)}"
    for folder in {placed.folder: placed for placed in examples}:
        if folder not in prompts.contracts or folder == DEFAULT:
            yield f"{folder}/examples.yaml:1: there is no task of that name to try"

"""Prompt files: contracts and variants as people write them, checked and compiled."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from jinja2 import TemplateError, TemplateSyntaxError, nodes
from pydantic import Field, ValidationError

from router.checks.refusals import opens_like_a_refusal
from router.errors import PromptError, did_you_mean
from router.policy.yaml_text import read_yaml
from router.prompts.templates import BoundedTemplate
from router.rows import Row, TierName
from schemas.base import Tier
from schemas.request import Context

__all__ = [
    "BESIDE",
    "DEFAULT",
    "CannedReply",
    "PromptContract",
    "Variant",
    "explained",
    "is_beside",
    "read_prompts",
    "written",
]

#: The folder whose variants serve every task that has none of its own.
DEFAULT = "_default"
#: Files that may be beside prompts: their examples, and the lock of what was released.
BESIDE = ("examples.yaml", "versions.lock")
#: The variables that a variant may use.
VARIABLES = frozenset(
    {"context", "has_confidence", "rules", "says", "schema", "task", "tasks", "tier", "tone"}
)

#: The kinds of our own texts that may be published in place of a model's answer, or beside it.
CannedReply = Literal[
    "caveat", "clarification", "in_review", "refusal", "safe_default", "tool_failed"
]


class PromptContract(Row):
    """What every tier is told about a task."""

    version: Annotated[int, Field(ge=1)]
    #: The output format the prompt was written for.
    format: str
    #: The job, in words the model reads.
    says: Annotated[str, Field(min_length=3)]
    tone: str = ""
    rules: list[Annotated[str, Field(min_length=3)]] = Field(default_factory=list)
    #: What the customer reads instead of an answer: templates that may name the task. Where a
    #: task has none of its own, those of `_default` serve.
    texts: Mapping[CannedReply, Annotated[str, Field(min_length=3)]] = Field(default_factory=dict)
    #: Versions of the variants in this folder. A tier that is not named uses `_default`.
    variants: Mapping[TierName, int] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Variant:
    """The text of a contract for one tier."""

    name: str
    version: int
    template: BoundedTemplate
    #: True when the text places the context itself; otherwise it follows at the end.
    places_context: bool


def read_prompts(
    files: Mapping[str, str],
) -> tuple[Mapping[str, PromptContract], Mapping[tuple[str, Tier], Variant]]:
    """Contracts by folder, and variants by folder and tier.

    Raises PromptError with every problem as `file:line: what`.
    """
    files = {path: files[path] for path in sorted(files) if not is_beside(path)}
    contracts: dict[str, PromptContract] = {}
    variants: dict[tuple[str, Tier], Variant] = {}
    problems: list[str] = []
    for path, text in files.items():
        folder, _, name = path.rpartition("/")
        if name == "contract.yaml" and folder:
            try:
                contracts[folder] = _read_contract(path, text)
            except PromptError as error:
                problems.append(str(error))
    for path, text in files.items():
        folder, _, name = path.rpartition("/")
        if name == "contract.yaml" and folder:
            continue
        try:
            tier = _tier_of(path, name)
            variants[folder, tier] = _compile(path, text, folder, tier, contracts.get(folder))
        except PromptError as error:
            problems.append(str(error))
    problems.extend(_missing(contracts, files))
    if problems:
        raise PromptError("\n".join(problems))
    return contracts, variants


def written(text: str, task: str) -> str:
    """A customer's text with the task's name filled in."""
    return BoundedTemplate(text).render(task=task).strip()


def is_beside(path: str) -> bool:
    """True for a file that is beside prompts and no part of them."""
    name = path.rpartition("/")[2]
    return name.startswith((".", "README")) or name in BESIDE


def _tier_of(path: str, name: str) -> Tier:
    stem, _, ending = name.partition(".")
    if ending == "j2" and stem in list(Tier) and path.count("/") == 1:
        return Tier(stem)

    hint = did_you_mean(name, ["contract.yaml", *(f"{tier}.j2" for tier in Tier)])
    msg = f"{path}:1: expected <task>/contract.yaml or <task>/<tier>.j2{hint}"
    raise PromptError(msg)


def _read_contract(path: str, text: str) -> PromptContract:
    value, lines, problems = read_yaml(text)
    if problems:
        raise PromptError("\n".join(problem.at(path) for problem in problems))
    try:
        contract = PromptContract.model_validate(value)
    except ValidationError as error:
        raise PromptError("\n".join(explained(error, PromptContract, path, lines))) from None
    for kind, words in contract.texts.items():
        _check_text(path, lines.get(("texts", kind), 1), words)
    return contract


def _check_text(path: str, line: int, words: str) -> None:
    """Raises PromptError for a text that cannot be rendered."""
    try:
        template = BoundedTemplate(words)
        named = _names(template.parsed)
        if unknown := sorted(named.keys() - {"task"}):
            msg = f"{path}:{line}: a text may name task and nothing else; found {unknown[0]}"
            raise PromptError(msg)
        rendered = template.render(task="trial")
        if opens_like_a_refusal(rendered):
            msg = f"{path}:{line}: it reads like a model's refusal; say it in our own voice"
            raise PromptError(msg)
    except TemplateError as error:
        msg = f"{path}:{line}: {error}"
        raise PromptError(msg) from None


def explained(
    error: ValidationError, row: type[Row], path: str, lines: Mapping[Any, int]
) -> Iterator[str]:
    """The mistakes in a row of a file, each as `file:line: field: what`."""
    for problem in error.errors(include_input=False, include_url=False):
        steps = tuple(step for step in problem["loc"] if step != "[key]")
        line = lines.get(steps) or lines.get(steps[:-1], 1)
        is_unknown = problem["type"] == "extra_forbidden"
        hint = did_you_mean(str(steps[-1]), row.model_fields) if is_unknown else ""
        yield f"{path}:{line}: {'.'.join(map(str, steps))}: {problem['msg']}{hint}"


def _compile(
    path: str, text: str, folder: str, tier: Tier, contract: PromptContract | None
) -> Variant:
    if contract is None or tier not in contract.variants:
        msg = f"{path}:1: {folder}/contract.yaml gives no version for it under variants"
        raise PromptError(msg)
    try:
        template = BoundedTemplate(text)
        named = _names(template.parsed)
    except TemplateSyntaxError as error:
        msg = f"{path}:{error.lineno}: {error.message}"
        raise PromptError(msg) from None
    for name, line in named.items():
        if name not in VARIABLES:
            msg = f"{path}:{line}: no variable is called {name}{did_you_mean(name, VARIABLES)}"
            raise PromptError(msg)
    for schema in (None, '{"type": "object"}'):
        try:
            template.render(**_trial(contract, tier, schema))
        except (TemplateError, TypeError, ValueError) as error:
            msg = f"{path}:1: cannot be rendered: {error}"
            raise PromptError(msg) from None
    name = f"default_{tier}" if folder == DEFAULT else str(tier)
    return Variant(name, contract.variants[tier], template, "context" in named)


def _names(parsed: nodes.Template) -> dict[str, int]:
    """The variables a template expects from outside, with their first line."""
    own = {node.name for node in parsed.find_all(nodes.Name) if node.ctx != "load"}
    named: dict[str, int] = {}
    for node in parsed.find_all(nodes.Name):
        if node.name not in own and node.name != "loop":
            named.setdefault(node.name, node.lineno)
    return named


def _trial(contract: PromptContract, tier: Tier, schema: str | None) -> dict[str, Any]:
    return {
        "task": "trial",
        "tier": tier.value,
        "says": contract.says,
        "tone": contract.tone,
        "rules": contract.rules,
        "schema": schema,
        "has_confidence": schema is not None,
        "context": Context().model_dump(),
        "tasks": {"trial": "a trial"},
    }


def _missing(contracts: Mapping[str, PromptContract], files: Mapping[str, str]) -> Iterator[str]:
    for folder, contract in contracts.items():
        for tier in contract.variants:
            if f"{folder}/{tier}.j2" not in files:
                yield f"{folder}/contract.yaml:1: variants names {tier}, but {tier}.j2 is missing"

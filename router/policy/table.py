"""The routing policy as data: what a policy file says, frozen and strict."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import Annotated, Any, Literal

import orjson
from pydantic import Field, PrivateAttr

from router.checks import DEFAULT_CHECKS, NamedCheck
from router.policy.apart import SHARED, Apart, apart_of
from router.policy.caps import Cap, is_by_tenant
from router.policy.models import Dollars, Model, Price
from router.policy.plans import AttemptLimits, ContextLimits, Plan
from router.policy.rules import Approval, Example, Rule, When
from router.policy.worth import Costs, Right
from router.request.subjects import Subject
from router.rows import Count, Fraction, Name, Row, Sentence, TierName
from schemas.base import Tier
from schemas.spans import PositiveSpan

__all__ = [
    "Agreement",
    "Approval",
    "AttemptLimits",
    "Classify",
    "ContextLimits",
    "Costs",
    "Example",
    "Model",
    "Plan",
    "Policy",
    "Price",
    "Review",
    "Right",
    "Rule",
    "Task",
    "TierRow",
    "Verify",
    "When",
    "digest_of",
]


class TierRow(Row):
    """A price and quality class."""

    #: What the tier is for, in a sentence.
    job: Sentence
    #: In order: the first is called, the others are its backups.
    models: Annotated[list[str], Field(min_length=1)]
    #: The least confidence with which an answer of this tier is published.
    accept: Fraction
    #: How `accept` came about: what it was fitted to and when, or who set it.
    accept_because: Sentence | None = None


class Agreement(Row):
    """Several answers to one question, of which the first is published when enough agree."""

    #: How many answers are asked for, the first one included.
    samples: Annotated[int, Field(ge=2, le=5)] = 2
    #: `same`: the same model several times (a vote). `others`: the tier's other models in turn.
    of: Literal["same", "others"] = "others"
    #: The least share of answers, the first one included, that say what the first one says.
    share: Fraction = 1.0
    #: The fields of the format that must agree.
    fields: Annotated[list[str], Field(min_length=1)]


class Verify(Row):
    """A model at a named tier reads an answer that passed every other check."""

    #: The tier whose models read.
    tier: TierName
    #: The least confidence of the verifier with which it can find an answer right.
    accept: Fraction = 0.7
    #: The prompt it works by: a folder under the prompts.
    prompt: str = "verify"


class Task(Row):
    """One row of the routing table."""

    #: When a request is of this task, in words for people and for the classify step.
    trigger: Sentence
    #: Where a request of this task starts, before rules and plans.
    tier: TierName
    #: The tiers an escalation climbs through, in order, above `tier`.
    escalation: list[TierName] = Field(default_factory=list)
    #: Its own models at `tier`, in order, instead of the tier's: one that was tuned for it, say.
    #: They need be in no tier. One that cannot take what a request holds is passed over.
    models: list[str] = Field(default_factory=list)
    #: A model of the first tier to use when its first one fails; None: the tier's own order.
    backup: str | None = None
    #: Checks in order, each a name or a name with its parameters. Where none are named, the first
    #: six of the table of checks.
    checks: list[NamedCheck] = Field(default_factory=lambda: list(DEFAULT_CHECKS))
    #: Where the confidence comes from: the model says it, or its tokens' probabilities do.
    confidence: Literal["stated", "token_probability"] = "stated"
    #: Ask more than once and compare. None: one answer is enough.
    agreement: Agreement | None = None
    #: Have another model read the answer. None: the checks are enough.
    verify: Verify | None = None
    #: What a model's refusal is: for a person to see, a result in our words, or a reason to climb.
    on_refusal: Literal["review", "deliver", "next_tier"] = "next_tier"
    #: Where the flow ends when nothing can be defended: with a person, or the task's safe default.
    last_resort: Literal["person", "safe_default"] = "person"
    #: What the consumer gets while a person has the request: nothing, a notice, or the safe
    #: default, which the person's answer corrects later. Neither of them is final.
    while_in_review: Literal["silent", "notify", "safe_default"] = "silent"
    #: The output format: a name under `formats`.
    format: str = "answer"
    #: A question back to the user (`next_action: ask_user`) is a result, however unsure it is.
    clarify: bool = True
    #: Texts over the format's `maxLength` end at the last whole sentence, instead of climbing.
    shorten: bool = False
    #: How many rejected or failed attempts are enough to stop and give up.
    failure_limit: Count = 3
    #: What to do when nobody knows whether a call ran: call again, or leave it to a person.
    unknown_outcome: Literal["recall", "park"] = "recall"
    #: Whether an outage of the tier may climb the ladder.
    on_outage: Literal["stay", "next_tier"] = "stay"
    #: The tier that takes what its own cannot take in time: because all models are out or fail, its
    #: `slots` are taken, or the deadline comes first. None: that waits, and a person has it then.
    overflow: TierName | None = None
    #: The most calls at once for this task, in each process. None: as many as its models take.
    slots: Count | None = None
    #: `own`: its failures put models out for this task alone, as they always do with `models`.
    breaker: Literal["shared", "own"] = "shared"
    #: Whether another model may stand in unseen for one that fails. None: unless the task is risky.
    #: Where a person approves the answer, it always may.
    fallback: Literal["allowed", "forbidden"] | None = None
    #: `person`: an accepted answer still waits for approval (money, contracts, legal, medical).
    #: `person_first`: a person has the request before any model is called.
    approval: Approval = "none"
    #: What a mistake may do: little, harm to somebody, or nobody can tell. Rules can ask for it.
    risk: Literal["routine", "risky", "unclear"] = "routine"
    #: Least confidence per tier where the tier's own threshold does not fit.
    accept: Mapping[TierName, Fraction] = Field(default_factory=dict)
    #: How they came about: what they were fitted to and when, or who set them.
    accept_because: Sentence | None = None
    #: The longest output of a call. None: as the model's row says.
    max_output_tokens: Count | None = None
    #: How long the request may take at most.
    deadline: PositiveSpan | None = None
    #: How soon a person should have decided where one has to. None: as the limits say.
    review_within: PositiveSpan | None = None
    #: What a wrong answer costs, in dollars. An answer in doubt then climbs only where that is the
    #: way with the least expected cost. None: it climbs as far as it may.
    worth: Dollars | None = None
    #: How often each tier is right; `worth` needs it. `tierline policy advise` prints it.
    right: Right | None = None
    #: The largest share of requests that climbs from a tier, in each process. None: all may.
    climb_at_most: Fraction | None = None
    #: Where a request goes that would make it more: to a person, or out with the task's caveat
    #: where only its confidence is too low, and nothing risky is asked.
    over_share: Literal["person", "caveat"] = "person"
    #: The problem that the task solves in one sentence, with a target that can be measured.
    problem: Sentence | None = None
    #: Why the task starts at its tier.
    reason: Sentence
    #: Who answers for the row.
    owner: Sentence

    def may_fall_back(self, *, is_seen: bool) -> bool:
        """True where another model may stand in for one that fails; `is_seen`: a person approves.

        Where other words could do harm, nobody may get them from another model unseen.
        """
        usual = "forbidden" if self.risk == "risky" else "allowed"
        is_seen = is_seen or self.approval != "none"
        return is_seen or (self.fallback or usual) == "allowed"


class Classify(Row):
    """Asks the low tier what a request is when it names no task we know."""

    #: Only without a task, or also for a task that is not in the table.
    applies_to: Literal["missing", "missing_or_unknown"] = "missing_or_unknown"
    #: The tier that is asked.
    tier: TierName = Tier.LOW
    #: The task to use when the classify step gives no usable answer; None: a person decides.
    otherwise: str | None = None
    #: Tasks whose requests are scored before they are answered, though they name their task: the
    #: complexity that the step finds counts in the rules, unless the producer sends one.
    complexity_counts_for: list[str] = Field(default_factory=list)
    #: What counts where a task was only found out and the text speaks of a delicate subject, by the
    #: word tables (`docs/signals.md`): the task whose row is used unless the one that was
    #: found is as careful, or `person`, who then approves every answer. Of several subjects the
    #: one counts that asks for most.
    speaks_of: dict[Subject, str] = Field(default_factory=dict)
    #: Why, for people.
    reason: Sentence


class Review(Row):
    """How often the policy is reviewed: weekly at launch, monthly later."""

    #: The time between two reviews.
    every: PositiveSpan


class Policy(Row):
    """The whole routing policy. `version` changes with every edit; records carry it."""

    #: Tells apart the policies of several deployments.
    name: Name
    #: Raise it with every edit.
    version: Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z.\-]{0,31}$")]
    #: Who decides on changes.
    owner: Sentence
    #: Models by the names that tiers and tasks use.
    models: Annotated[dict[str, Model], Field(min_length=1)]
    #: The tiers in use: one at least.
    tiers: dict[TierName, TierRow]
    #: The routing table: one row per task.
    tasks: Annotated[dict[Name, Task], Field(min_length=1)]
    #: JSON Schemas of the output formats by name.
    formats: dict[str, dict[str, Any]]
    #: What customers' plans allow.
    plans: dict[Name, Plan]
    #: The plan of a request that names none, or one that is not in the table.
    default_plan: str
    #: Rules in the order in which they are tried: the first that matches applies.
    rules: list[Rule] = Field(default_factory=list)
    #: What happens to a request that names no task. None: a person decides.
    classify: Classify | None = None
    #: What may be spent, by whom, in which time.
    caps: dict[Name, Cap] = Field(default_factory=dict)
    #: What one request may use up.
    limits: AttemptLimits = AttemptLimits()
    #: None: nobody is reminded.
    review: Review | None = None
    #: What people's time is worth, where a task's `worth` asks.
    costs: Costs = Costs()
    #: Tests of the policy, which `tierline policy check` runs.
    examples: list[Example] = Field(default_factory=list)
    _content: Mapping[str, Any] | None = PrivateAttr(None)

    @property
    def content(self) -> Mapping[str, Any]:
        """The file's content as it was read; without a file, the fields that were set."""
        return self._content or self.model_dump(mode="json", exclude_unset=True)

    @cached_property
    def digest(self) -> str:
        """The digest of the policy's content without its examples, which decide nothing.

        Taken over the file's content, not over our fields: newer software may have more fields.
        """
        return digest_of({name: self.content[name] for name in self.content if name != "examples"})

    @classmethod
    def of_file(cls, content: Any) -> "Policy":
        """The policy of a file's content. Raises ValidationError."""
        policy = cls.model_validate(content)
        policy._content = content  # noqa: SLF001  its own
        return policy

    @property
    def review_every(self) -> timedelta | None:
        """How often it is reviewed; None: nobody is reminded."""
        return None if self.review is None else self.review.every

    def plan_name(self, name: str | None) -> str:
        """The plan that counts where a request names this one."""
        return name if name in self.plans else self.default_plan

    @cached_property
    def has_domain_by_tenant(self) -> bool:
        """True where no account of a cap is shared by tenants."""
        return all(is_by_tenant(cap) for cap in self.caps.values())

    @cached_property
    def rules_by_task(self) -> Mapping[str, Sequence[Rule]]:
        """By task, the rules that can decide its tier: those that name no other task or risk."""
        deciding = [rule for rule in self.rules if rule.tier is not None or rule.approval is None]
        return {name: _applying(deciding, name, task) for name, task in self.tasks.items()}

    @cached_property
    def asking_by_task(self) -> Mapping[str, Sequence[Rule]]:
        """By task, the rules that can ask a person about it; with no name, those about any task."""
        asking = [rule for rule in self.rules if rule.approval is not None]
        of_any = [rule for rule in asking if rule.when.tasks is None and rule.when.risk is None]
        return {"": of_any} | {n: _applying(asking, n, task) for n, task in self.tasks.items()}

    @cached_property
    def triggers(self) -> Mapping[str, str]:
        """What makes a request one of each task, in words for the classify step."""
        return {name: task.trigger for name, task in self.tasks.items()}

    @cached_property
    def weighed_tasks(self) -> frozenset[str]:
        """The tasks of which it is weighed whether a dearer model should be asked."""
        bounded = ((name, task.worth, task.climb_at_most) for name, task in self.tasks.items())
        return frozenset(name for name, worth, most in bounded if (worth, most) != (None, None))

    @cached_property
    def longest_deadline(self) -> timedelta:
        """The most time that any request is given."""
        deadlines = [task.deadline for task in self.tasks.values() if task.deadline is not None]
        return max([self.limits.deadline, *deadlines])

    def bounded(self, deadline: datetime, since: datetime) -> datetime:
        """A deadline, but no later than any that a request can have at `since`.

        A writer to the topics between stages could give itself any time.
        """
        return min(deadline, since + self.longest_deadline)

    @cached_property
    def room_by_tier(self) -> Mapping[Tier, int]:
        """The most input tokens that any model of a tier takes beside its longest output."""
        return {
            tier: max(self.models[name].room for name in self.tiers[tier].models)
            for tier in Tier
            if tier in self.tiers
        }

    @cached_property
    def least_room(self) -> int:
        """The most input tokens that every model takes."""
        return min(model.room for model in self.models.values())

    @cached_property
    def models_by_tier(self) -> Mapping[Tier, Sequence[str]]:
        """All models that are called for answers in each tier: its own, and those of its tasks."""
        models = {tier: [*row.models] for tier, row in self.tiers.items()}
        for row in self.tasks.values():
            models[row.tier] += [name for name in row.models if name not in models[row.tier]]
        return models

    @cached_property
    def apart_by_task(self) -> Mapping[str, Apart]:
        """What each task has to itself."""
        shared = [name for row in self.tiers.values() for name in row.models]
        return apart_of(self.tasks, self.models, shared)

    def apart(self, task: str | None) -> Apart:
        """What a task has to itself."""
        return self.apart_by_task.get(task or "", SHARED)

    @cached_property
    def rooms_by_task(self) -> Mapping[str, Mapping[Tier, int]]:
        """By task, the most input tokens that any of the models takes that answer it in a tier."""
        rooms = dict.fromkeys(self.tasks, self.room_by_tier)
        for name, task in self.tasks.items():
            if task.models:
                own = max(self.models[model].room for model in task.models)
                rooms[name] = {**self.room_by_tier, task.tier: own}
        return rooms

    def models_of(self, tier: Tier, task: str | None = None) -> Sequence[str]:
        """The tier's models, or the task's own there, in the order they are tried for a task."""
        order = list(self.tiers[tier].models) if tier in self.tiers else []
        row = self.tasks.get(task) if task else None
        if row and row.models and tier == row.tier:
            order = list(row.models)
        if row and row.backup and tier == row.tier and row.backup in order[1:]:
            order.remove(row.backup)
            order.insert(1, row.backup)
        return order

    def accept_at(self, tier: Tier, task: str | None) -> float:
        """The least confidence with which this tier's answer to this task is published."""
        row = self.tasks.get(task) if task else None
        return row.accept.get(tier, self.tiers[tier].accept) if row else self.tiers[tier].accept


def _applying(rules: Sequence[Rule], name: str, task: Task) -> Sequence[Rule]:
    return [
        rule
        for rule in rules
        if (rule.when.tasks is None or name in rule.when.tasks)
        and (rule.when.risk is None or task.risk in rule.when.risk)
    ]


def digest_of(content: Any) -> str:
    """The first 12 hexadecimal digits of a content's SHA-256, whatever order its keys stand in."""
    written = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(written).hexdigest()[:12]

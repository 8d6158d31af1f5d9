"""`tierline prompts`: shows the prompts, tests them on examples, and locks released ones."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from consumers.amounts import dollars
from consumers.cli.common import FAILED, OK, AsJson, UserError, asynchronous, read_settings
from consumers.cli.provided import provided
from consumers.cli.terminal import console, print_json, print_table
from consumers.rules import load_rules, prompts_folder, read_folder
from consumers.settings import Settings
from consumers.texts import say
from router.attempt.model_quirks import charged
from router.attempt.question import Question, question_of, verification_of
from router.checks import Asked
from router.errors import did_you_mean
from router.policy.table import Verify
from router.prompts.examples import (
    ACCEPTED,
    Placed,
    Tried,
    compare,
    read_examples,
    reply_of,
    unshown,
)
from router.prompts.lock import LOCK_FILE, changes_since, lock_text, parts_of, read_lock
from router.releases.bundle import Bundle
from router.reply.reply import CallFailure, Reply
from schemas.base import Tier
from schemas.errors import ContractError
from schemas.escalation import RouteStep
from schemas.intake import read_request_object
from schemas.request import Request

__all__ = ["app"]

app = typer.Typer(help="Show, test and lock the prompts.", no_args_is_help=True)

TierName = Annotated[
    str | None, Option("--tier", metavar="TIER", help="Take only this tier's variant.")
]


@app.command()
def show(
    task: Annotated[
        str, Argument(metavar="TASK", help="A task of the policy, classify, or verify.")
    ],
    tier: TierName = None,
    as_json: AsJson = False,
) -> None:
    """Print the prompt of a task at each tier, with an empty question."""
    rules = load_rules(read_settings(needs_kafka=False))
    _check_name(task, rules)
    rows: list[dict[str, Any]] = []
    for each in _tiers(tier, rules):
        question, _ = _question(rules, task, each, {"input": "…"}, {})
        rendered = question.rendered
        rows.append(
            {"tier": each.value, "version": rendered.version, "messages": rendered.messages}
        )
    if as_json:
        print_json(rows)
        return
    for row in rows:
        console().print(f"{row['tier']}: {row['version']}", style="bold")
        for message in row["messages"]:
            say(f"{message['role']}:\n{message['content']}\n")


@app.command("test")
@asynchronous
async def try_prompts(
    task: Annotated[
        str | None, Argument(metavar="[TASK]", help="The task to test; by default, all.")
    ] = None,
    tier: TierName = None,
    live: Annotated[
        bool, Option("--live", help="Also call the tier's first model, which costs money.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Test every prompt on its examples: what it says, and how a model's reply is judged."""
    settings = read_settings(needs_kafka=False)
    rules, folder = load_rules(settings), prompts_folder(settings)
    if task is not None:
        _check_name(task, rules)
    tries, missing = _prepared(rules, folder, task, _tiers(tier, rules))
    tried, cost = [example.offline() for example in tries], 0
    if live:
        outcomes, cost = await _live(settings, rules, tries)
        tried += outcomes
    _print_outcomes(tried, missing, folder, cost, live=live, as_json=as_json)
    return FAILED if missing or any(example.problems for example in tried) else OK


@app.command()
def lock() -> None:
    """Record what is released now, so that `policy check` reports later changes."""
    settings = read_settings(needs_kafka=False)
    rules, folder = load_rules(settings), prompts_folder(settings)
    files, contracts = read_folder(folder), rules.prompts.contracts
    now = parts_of(contracts, files, rules.policy)
    locked = read_lock(files.get(LOCK_FILE, ""))
    errors, _ = changes_since(locked, now, contracts, files, rules.policy)
    tries, missing = _prepared(rules, folder, None, list(rules.policy.tiers))
    failed = [example for example in (each.offline() for each in tries) if example.problems]
    problems = [
        *errors,
        *missing,
        *(f"{example.where}: {example.problems[0]}" for example in failed),
    ]
    if problems:
        raise UserError("\n".join(("not locked:", *problems)))
    (folder / LOCK_FILE).write_text(lock_text(now), encoding="utf-8")
    say(f"{folder / LOCK_FILE}: {len(now)} parts are locked")


def _prepared(
    rules: Bundle, folder: Path, task: str | None, tiers: Sequence[Tier]
) -> "tuple[list[_Try], list[str]]":
    """Every example with every variant it is for, and a message for each prompt without one."""
    examples = [
        example for example in read_examples(read_folder(folder)) if task in (None, example.folder)
    ]
    tries = [
        _Try(placed, tier, *_question_of(rules, placed, tier))
        for placed in examples
        for tier in tiers
        if tier in placed.tiers(rules.policy)
        and (placed.folder != "classify" or rules.policy.classify)
    ]
    if task is not None:
        missing = [] if tries else [f"{task}/contract.yaml:1: no example for {', '.join(tiers)}"]
    else:
        missing = list(unshown(examples, rules.prompts, rules.policy))
    return tries, missing


@dataclass(frozen=True, slots=True)
class _Try:
    """An example with one variant."""

    placed: Placed
    tier: Tier
    question: Question
    request: Request

    def offline(self) -> Tried:
        """The outcome of the example's own reply."""
        return self.judged(reply_of(self.placed.example))

    def judged(self, reply: Reply) -> Tried:
        """The outcome of a reply, compared with what the example expects."""
        verdict = self.question.judged(reply, Asked(self.request))
        return compare(self.placed, self.tier, self.question.rendered, verdict)


def _question_of(rules: Bundle, placed: Placed, tier: Tier) -> tuple[Question, Request]:
    example = placed.example
    try:
        return _question(rules, placed.folder, tier, example.request, example.answer or {})
    except ContractError as error:
        msg = f"{placed.where}: request: {error.detail}"
        raise UserError(msg) from None


def _question(
    rules: Bundle, name: str, tier: Tier, fields: Mapping[str, Any], answer: Mapping[str, Any]
) -> tuple[Question, Request]:
    is_task = name in rules.policy.tasks
    request_fields = {**fields, "task": name} if is_task else dict(fields)
    request = read_request_object(request_fields, {}, fallback_id="example")
    step: RouteStep = "classify" if name == "classify" else "answer"
    if is_task or step == "classify":
        task = name if is_task else None
        return question_of(step, tier, task, request, rules.policy, rules.prompts), request
    rows = [task.verify for task in rules.policy.tasks.values() if task.verify]
    accept = next((row.accept for row in rows if row.prompt == name), Verify(tier=tier).accept)
    verify = Verify(tier=tier, accept=accept, prompt=name)
    return verification_of(verify, answer, request, rules.prompts), request


async def _live(
    settings: Settings, rules: Bundle, tries: Sequence[_Try]
) -> tuple[list[Tried], int]:
    """The outcomes of real replies to examples that expect an accepted one, and their cost."""
    from consumers.providers.client import Providers  # noqa: PLC0415  the HTTP client takes 0.2 s

    tried, cost = [], 0
    async with (
        provided(settings, rules.policy) as (entries, _),
        Providers(entries) as caller,
    ):
        for number, example in enumerate(tries):
            if example.placed.example.expect != ACCEPTED:
                continue
            name = rules.policy.models_of(example.tier, example.request.task)[0]
            model = rules.policy.models[name]
            fields = caller.chat_fields(model.provider)
            outcome: Reply | CallFailure = await caller.call(
                model.provider,
                example.question.body(example.request, model, fields)[0],
                attempt_id=f"prompts-test.1.{number + 1}",
                request_id=f"prompts-test-{number + 1}",
                timeout=rules.policy.limits.call_timeout,
            )
            if isinstance(outcome, Reply):
                checked = example.judged(outcome)
                cost += charged(outcome, model, rules.policy)[0]
            else:
                checked = replace(example.offline(), outcome=outcome.reason.value)
                checked.problems.append(f"{name} gave no reply: {outcome.detail}")
            tried.append(replace(checked, says=f"{checked.says} ({name})"))
    return tried, cost


def _print_outcomes(
    tried: Sequence[Tried],
    missing: Sequence[str],
    folder: Path,
    cost: int,
    *,
    live: bool,
    as_json: bool,
) -> None:
    failed = [example for example in tried if example.problems]
    if as_json:
        rows = [asdict(example) for example in tried]
        for row in rows:
            row |= {"found": row.pop("outcome"), "passed": not row["problems"]}
        document = {"ok": not failed and not missing, "tried": rows, "problems": list(missing)}
        print_json({**document, "cost_micros": cost} if live else document)
        return
    rows = [
        {
            "prompt": example.version,
            "tier": example.tier,
            "example": example.says,
            "outcome": example.outcome,
            "tokens": example.tokens,
            "": "failed" if example.problems else "ok",
        }
        for example in tried
    ]
    print_table(rows, ("prompt", "tier", "example", "outcome", "tokens", ""))
    for line in missing:
        say(f"{folder}/{line}")
    for example in failed:
        for problem in example.problems:
            say(f"{folder}/{example.where}: {example.tier}: {problem}")
    paid = f", for {dollars(cost)}" if live else ""
    say(f"{len(tried) - len(failed)} of {len(tried)} examples pass{paid}")


def _tiers(tier: str | None, rules: Bundle) -> list[Tier]:
    tiers = list(rules.policy.tiers)
    if tier is None:
        return tiers
    if tier not in tiers:
        msg = f"the policy has no tier {tier!r}; it has {', '.join(tiers)}"
        raise UserError(msg)
    return [name for name in tiers if name == tier]


def _check_name(name: str, rules: Bundle) -> None:
    if name == "classify" and rules.policy.classify is None:
        msg = "the policy has no classify step, so its prompt is never used"
        raise UserError(msg)
    if name in rules.prompts.contracts and not name.startswith("_"):
        return
    msg = f"no prompt is called {name!r}{did_you_mean(name, rules.prompts.contracts)}"
    raise UserError(msg)

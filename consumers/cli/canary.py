"""`tierline policy canary show` and `pairs`: how a candidate does beside the active release."""

import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from consumers import clock
from consumers.amounts import in_words
from consumers.cli.common import AsJson, KafkaAddress, UserError, asynchronous, read_settings
from consumers.cli.past import Store
from consumers.cli.terminal import console, print_json, print_table
from consumers.policy_file import read_policy
from consumers.policy_log import PolicyLog, read_log
from consumers.reports import read_requests
from consumers.runtime.clients import Clients
from consumers.settings import Settings
from router.releases.standing import Candidate
from schemas.base import Tier

if TYPE_CHECKING:  # few commands need tables
    from consumers.readmodel.model import ReadModel

__all__ = ["pairs", "show"]


@asynchronous
async def show(store: Store = None, kafka: KafkaAddress = None, as_json: AsJson = False) -> None:
    """Show how the candidate does beside the active release, and what its guard would do."""
    settings = read_settings(kafka)
    async with _rollout(settings, store) as (log, candidate, model):
        from consumers.rollout_guard import RolloutGuard  # noqa: PLC0415  few commands need tables

        guard = RolloutGuard(settings, read_policy(settings), model)
        judgement = await guard.judge(log, clock.now())
    verdict, comparisons = judgement or (None, [])
    words = [comparison.words for comparison in comparisons]
    if as_json:
        print_json({"verdict": verdict and verdict._asdict(), "figures": words})
        return
    heading = f"version {candidate.release.version} at {candidate.share:.4g}"
    for line in (heading, *words, f"The guard: {verdict.words if verdict else 'none'}."):
        console().print(line, soft_wrap=True)


@asynchronous
async def pairs(
    count: Annotated[
        int, typer.Option("-n", "--count", metavar="COUNT", min=1, max=1000, help="Draw so many.")
    ] = 12,
    store: Store = None,
    kafka: KafkaAddress = None,
    as_json: AsJson = False,
) -> None:
    """Draw answers of both releases to read side by side: the same ones for everybody."""
    settings, now = read_settings(kafka), clock.now()
    by_task: defaultdict[str, tuple[list[Any], list[Any]]] = defaultdict(lambda: ([], []))
    async with _rollout(settings, store) as (log, candidate, model):
        from consumers.readmodel.answers import answered  # noqa: PLC0415  few commands need tables

        active, begin, salt = log.standing.active, candidate.act.at, candidate.act.salt
        for no, release in enumerate(filter(None, (active, candidate.release))):
            span = partial(answered, since=begin, until=now, release=release.digest)
            drawn, _ = await model.ask(partial(span, week=salt, count=count))
            for answer in drawn:
                by_task[answer.task][no].append(answer)
    both = [pair for line in by_task.values() for pair in zip(*line, strict=False)]
    keys = {answer.request for pair in both for answer in pair}
    requests = await read_requests(Clients(settings.kafka), keys, begin)
    rows = [
        {
            "task": old.task,
            **{
                f"{arm} {what}": words
                for arm, answer in (("active", old), ("candidate", new))
                for what, words in (
                    ("request", str(answer.request)),
                    ("asked", requests[answer.request].text if answer.request in requests else ""),
                    ("answered", in_words(answer.output)),
                )
            },
        }
        for old, new in both
    ]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(rows, tuple(rows[0]), title=f"{len(rows)} pairs")
    else:
        console().print("no task has answers of both releases yet")


@contextlib.asynccontextmanager
async def _rollout(
    settings: Settings, store: str | None
) -> AsyncIterator[tuple[PolicyLog, Candidate, "ReadModel"]]:
    """The log, its candidate and the read model as of now. Raises UserError without a candidate."""
    from consumers.cli.read_model import read_model  # noqa: PLC0415  few commands need tables
    from consumers.readmodel.arms import USUAL_OF  # noqa: PLC0415  as above

    topics, log = settings.kafka.topics, await read_log(settings, read_policy(settings).name)
    if (candidate := log.standing.candidate) is None:
        msg = "no release is a candidate: `tierline policy canary start` gives one a share"
        raise UserError(msg)
    read = [*topics.all_intakes, *map(topics.tier, Tier), *topics.of_figures]
    async with read_model(settings, store, read, candidate.act.at - USUAL_OF) as model:
        yield log, candidate, model

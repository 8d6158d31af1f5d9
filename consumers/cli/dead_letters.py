"""`tierline dead-letters`: list, show and requeue what the machine gave up on."""

import base64
from collections import deque
from typing import Annotated, Any

import typer
from typer import Argument, Option

from consumers.amounts import counted, dollars
from consumers.cli.common import (
    MOST_LISTED,
    AsJson,
    KafkaAddress,
    OfTenant,
    OnlyTask,
    OnlyTenant,
    Since,
    UserError,
    asynchronous,
    read_settings,
    span_of,
    tier_of,
)
from consumers.cli.letters import LetterFilter, decided_on, find_letter, letters_of
from consumers.cli.terminal import console, print_json, print_table
from consumers.records import Record, record_ref
from consumers.reports import reply_text
from consumers.texts import say
from schemas.dead_letter import DeadLetter

__all__ = ["app"]

app = typer.Typer(
    help="List, show and requeue dead letters: requests without an answer.", no_args_is_help=True
)

OnlyReason = Annotated[
    str | None, Option("--reason", metavar="CODE", help="Take only those with this reason.")
]
Where = Annotated[str, Argument(metavar="ID", help="A request's id, or a place from `list`.")]


@app.command("list")
@asynchronous
async def list_letters(
    reason: OnlyReason = None,
    task: OnlyTask = None,
    tenant: OnlyTenant = None,
    since: Since = None,
    last: Annotated[
        int,
        Option(
            "--last", metavar="COUNT", min=1, max=MOST_LISTED, help="List this many, the newest."
        ),
    ] = 100,
    kafka: KafkaAddress = None,
    as_json: AsJson = False,
) -> None:
    """List dead letters in order of time: the request, the reason, and what was decided."""
    settings = read_settings(kafka)
    letter_filter = LetterFilter(reason, task, tenant)
    newest = deque[dict[str, Any]](maxlen=last)
    count = 0
    async for record, letter in letters_of(settings, since):
        if letter_filter.matches(letter):
            newest.append(_row(record, letter))
            count += 1
    decided = await decided_on(settings, {row["where"] for row in newest})
    for row in newest:
        line = decided.get(row["where"])
        row["decided"] = line.decision.action if line and line.decision else ""
    rows = list(newest)
    if as_json:
        print_json(rows)
    elif rows:
        table = [
            {
                **row,
                "when": row["failed_at"][5:19].replace("T", " "),
                "cost": dollars(row["cost_micros"]),
            }
            for row in rows
        ]
        columns = ["when", "request", "task", "reason", "cost", "where", "detail"]
        optional = ["detail", "where", "task"]
        for name, usual in (("tenant", "default"), ("generation", 1), ("decided", "")):
            if any(row[name] != usual for row in rows):
                columns.append(name)
        print_table(table, columns, optional=optional)
    else:
        console().print("no dead letters")
    if count > len(rows):
        say(f"these are the newest {len(rows)} of {count:,}; --last shows more", is_error=True)


def _row(record: Record, letter: DeadLetter) -> dict[str, Any]:
    """The listed fields. A whole dead letter may be large, and many are held at once."""
    return {
        "where": record_ref(record),
        "request": letter.request_id or "no id",
        "tenant": letter.tenant,
        "generation": letter.generation,
        "task": letter.task or "",
        "reason": letter.reason.value,
        "detail": letter.detail,
        "stage": letter.stage,
        "attempts": len(letter.attempts),
        "cost_micros": letter.cost_micros,
        "failed_at": letter.failed_at.isoformat(timespec="seconds"),
    }


@app.command()
@asynchronous
async def show(
    where: Where, tenant: OfTenant = None, kafka: KafkaAddress = None, as_json: AsJson = False
) -> None:
    """Show one dead letter: the diagnosis, every attempt, and the original bytes."""
    settings = read_settings(kafka)
    record, letter = await find_letter(settings, where, tenant)
    value = record.value or b""
    if as_json:
        text = value.decode("utf-8", "replace")
        raw = base64.b64encode(value).decode()
        print_json({**letter.model_dump(), "value": text, "value_base64": raw})
        return
    rows = [
        {"field": name, "value": field}
        for name, field in letter.model_dump(mode="json", exclude={"attempts"}).items()
        if field not in (None, "", [], ())
    ]
    print_table(rows, ("field", "value"), title=letter.reason.meaning)
    attempts = [
        {
            "no": attempt.attempt_no,
            "tier": attempt.tier,
            "model": attempt.model,
            "outcome": attempt.outcome,
            "reason": attempt.reason or "",
            "detail": attempt.detail,
            "reply": attempt.reply or reply_text(attempt),
        }
        for attempt in letter.attempts
    ]
    if attempts:
        columns = ("no", "tier", "model", "outcome", "reason", "detail", "reply")
        print_table(attempts, columns, title="attempts")
    say("original bytes (--json prints them unchanged):")
    say(value.decode("utf-8", "backslashreplace"))


@app.command()
@asynchronous
async def requeue(  # noqa: PLR0913, PLR0917  an option each
    where: Annotated[
        str | None,
        Argument(
            metavar="[ID]", help="A request's id, or a place from `list`; else give a filter."
        ),
    ] = None,
    tier: Annotated[
        str | None, Option(metavar="TIER", help="Begin at this tier instead of the policy's.")
    ] = None,
    reason: OnlyReason = None,
    task: OnlyTask = None,
    since: Since = None,
    yes: Annotated[
        bool, Option("--yes", help="Send many; without it, only their count and cost are shown.")
    ] = False,
    most: Annotated[
        int | None,
        Option(
            metavar="COUNT",
            min=1,
            max=MOST_LISTED,
            help="Take at most this many; 1,000 by default.",
        ),
    ] = None,
    rate: Annotated[
        float | None,
        Option(metavar="RATE", min=0.1, max=1000, help="Send this many a second; 10 by default."),
    ] = None,
    deadline: Annotated[
        str,
        Option(
            metavar="SPAN", help="Set the deadline this far from now, for example 30s, 15m or 6h."
        ),
    ] = "15m",
    force: Annotated[
        bool,
        Option("--force", help="Include those that wait for approval or were requeued before."),
    ] = False,
    tenant: OfTenant = None,
    kafka: KafkaAddress = None,
    as_json: AsJson = False,
) -> None:
    """Send requests through again: same ids and bytes, next generation, a new deadline.

    Name one by its id, or choose many by --reason, --task or --since: without --yes they are only
    counted. A command that was interrupted can be run again: nothing is sent twice.
    """
    from consumers.cli.requeue import (  # noqa: PLC0415  loads the policy; `list` needs none
        Plan,
        choose,
        choose_one,
        send,
    )

    if (where is None) == (reason is task is since is None):
        msg = "name one dead letter by its id, or choose many with --reason, --task or --since"
        raise UserError(msg)
    if where is not None and (most is not None or rate is not None):
        msg = "--most and --rate are for a choice of many, and one dead letter is named"
        raise UserError(msg)
    begin = None if tier is None else tier_of(tier)
    plan = Plan(span_of(deadline, "--deadline"), begin, force, rate or 10.0)
    settings = read_settings(kafka)
    if where is not None:
        chosen = await choose_one(settings, where, tenant, plan)
    else:
        letter_filter = LetterFilter(reason, task, tenant, since)
        chosen = await choose(settings, letter_filter, plan, most or 1000)
    is_sent = where is not None or yes
    sent = await send(settings, chosen.candidates, plan) if is_sent else 0
    if as_json:
        print_json(
            {
                "chosen": len(chosen.candidates),
                "sent": sent,
                "cost_micros": chosen.cost_micros,
                "more": chosen.more,
                "left_alone": chosen.left_alone,
            }
        )
        return
    cost = f"about {dollars(chosen.cost_micros)} for one call each"
    if where is not None:
        [candidate] = chosen.candidates
        generation = f"generation {candidate.generation + 1}"
        say(
            f"{candidate.request_id} goes through again as {generation} once the review stage has "
            f"read the decision ({cost})"
        )
        return
    count = counted(len(chosen.candidates), "dead letter")
    if is_sent:
        say(f"{count} sent through again; {cost}")
    else:
        say(f"{count} would be sent through again; {cost}; --yes sends them")
    for why, number in chosen.left_alone.items():
        say(f"{number:,} skipped: {why}")
    if chosen.more:
        say(f"{chosen.more:,} more match; run the command again for them")

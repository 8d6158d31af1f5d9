"""`tierline feedback`, `sample` and `evals`: what people say of answers, and answers to read."""

import sys
from datetime import datetime, timedelta
from typing import Annotated

import typer

from consumers.cli.common import (
    AsJson,
    KafkaAddress,
    OfTenant,
    UserError,
    console,
    counted,
    in_words,
    print_json,
    print_table,
    read_settings,
    reading_bar,
    run,
)
from consumers.cli.texts import say
from consumers.texts import escaped

__all__ = ["evals_app", "feedback", "sample"]

evals_app = typer.Typer(
    help="Print answers that people have judged, as examples.", no_args_is_help=True
)


def feedback(
    request_id: Annotated[str, typer.Argument(metavar="REQUEST_ID", help="The request's id.")],
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="What came of it: accepted, edited, regenerated, complaint or abandoned.",
        ),
    ],
    comment: Annotated[str | None, typer.Option(metavar="TEXT", help="Say why, in words.")] = None,
    generation: Annotated[
        int, typer.Option(metavar="NUMBER", help="Say which of its generations is meant.", min=1)
    ] = 1,
    tenant: OfTenant = None,
    kafka: KafkaAddress = None,
) -> None:
    """Say what became of an answer, as a downstream service does on `llm.feedback`."""

    async def main() -> int:
        from pydantic import ValidationError

        from consumers import clock
        from consumers.cli.journey import read_journey
        from consumers.runtime.clients import Clients
        from consumers.runtime.publisher import publisher
        from schemas.codec import dump
        from schemas.feedback import Feedback

        fields = {"request_id": request_id, "generation": generation, "kind": kind}
        fields |= {"tenant": tenant} if tenant is not None else {}
        try:
            said = Feedback.model_validate({**fields, "at": clock.now(), "comment": comment})
        except ValidationError as error:
            name = error.errors()[0]["loc"][-1]
            expected = "accepted, edited, regenerated, complaint or abandoned"
            what = f"one of {expected}" if name == "kind" else "printable text without blanks"
            msg = f"{name} {fields.get(str(name))!r}: {what} was expected"
            raise UserError(msg) from None
        settings = read_settings(kafka)
        found = await read_journey(request_id, settings, tenant)
        whose = next(iter(found.tenants), said.tenant)
        said = said.model_copy(update={"request_id": found.request_id, "tenant": whose})
        value = dump(said.model_dump(mode="json", exclude_none=True))
        async with publisher(Clients(settings.kafka)) as out:
            key = said.key.text.encode()
            _ = await (await out.publish(settings.kafka.topics.feedback, value, key=key))
        console().print(f"noted: {said.request_id} {kind}")
        return 0

    run(main)


def sample(
    week: Annotated[
        str | None,
        typer.Option(
            metavar="WEEK", help="Take this week, such as 2026-W48; else the last whole one."
        ),
    ] = None,
    count: Annotated[
        int,
        typer.Option(
            "-n", "--count", metavar="COUNT", min=1, max=1000, help="Draw so many requests."
        ),
    ] = 12,
    kafka: KafkaAddress = None,
    as_json: AsJson = False,
) -> None:
    """Draw some answered requests of a week to read side by side: the same ones for everybody."""

    async def main() -> int:
        from consumers import clock
        from consumers.reports import read_requests
        from consumers.runtime.clients import Clients
        from consumers.runtime.records import told_at
        from consumers.runtime.topic_reader import topic_reader
        from router.reports.samples import Draw, week_of
        from schemas.codec import read_model
        from schemas.errors import ContractError
        from schemas.result import Result

        settings = read_settings(kafka)
        wanted = week or week_of(clock.now() - timedelta(days=7))
        begin = _begin_of(wanted)
        clients, draw = Clients(settings.kafka), Draw(wanted, count)
        results = settings.kafka.topics.results
        async with topic_reader(clients, [results], since=begin) as reader:
            with reading_bar() as seen:
                async for record in reader.until_end(seen):
                    if week_of(told_at(record)) != wanted:
                        continue
                    try:
                        result = read_model(Result, record.value)
                    except ContractError:
                        continue
                    if result.router.final:
                        draw.offer(result.key, result.router.task, result.router)
        drawn = draw.drawn()
        with reading_bar() as seen:
            earlier = begin - timedelta(days=1)
            asked = await read_requests(clients, {key for key, _ in drawn}, earlier, seen)
        rows = [
            {
                "request": str(key),
                "task": info.task,
                "model": info.model,
                "asked": asked[key].text if key in asked else "no longer on intake",
                "answered": in_words(info.output),
            }
            for key, info in drawn
        ]
        if as_json:
            print_json({"week": wanted, "answered": draw.offered, "sample": rows})
        elif rows:
            title = f"{len(rows)} of {draw.offered:,} answered in {wanted}"
            print_table(rows, ("request", "task", "model", "asked", "answered"), title=title)
        else:
            console().print(f"nothing was answered in {wanted}")
        return 0

    run(main)


@evals_app.command("export")
def export_evals(
    all_decisions: Annotated[
        bool,
        typer.Option(
            "--all", help="Print every approved or edited case, not only those that were kept."
        ),
    ] = False,
    kafka: KafkaAddress = None,
) -> None:
    """Print reviewed cases as JSON Lines: task, input, the answer a person stands for."""

    async def main() -> int:
        from consumers.reports import read_examples
        from consumers.runtime.clients import Clients
        from schemas.json_numbers import as_json

        settings = read_settings(kafka)
        count, clients = 0, Clients(settings.kafka)
        with reading_bar() as seen:
            async for example in read_examples(clients, every=all_decisions, seen=seen):
                seen.give_way()
                _ = sys.stdout.write(escaped(as_json(example).decode()) + "\n")
                count += 1
        say(counted(count, "example"), is_error=True)
        return 0

    run(main)


def _begin_of(week: str) -> datetime:
    from datetime import UTC

    try:
        return datetime.strptime(f"{week}-1", "%G-W%V-%u").replace(tzinfo=UTC)
    except ValueError:
        msg = f"--week {week}: a year and a week were expected, for example 2026-W48"
        raise UserError(msg) from None

"""`tierline results`: what downstream services would read."""

import json
import re
import sys
from typing import Annotated

import typer

from consumers.cli.common import AsJson, KafkaAddress, read_settings, run
from consumers.cli.texts import escaped, plain, say

__all__ = ["results"]


def results(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as results come.")] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="Stop after so many.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Only of this tenant.")] = None,
    kafka: KafkaAddress = None,
    as_json: AsJson = False,
) -> None:
    """Print results: a line each, or the records themselves as JSON Lines."""

    async def main() -> int:
        from consumers.cli.journey import dollars
        from consumers.runtime.clients import Clients
        from consumers.runtime.reading import topic_reader
        from consumers.runtime.records import Record, lies_at, why_not_taken
        from schemas.codec import read_model
        from schemas.result import Result

        seen = 0

        def show(record: Record) -> None:
            nonlocal seen
            info = None
            if tenant is not None or not as_json:
                info = read_model(Result, record.value)
                if tenant not in (None, info.router.tenant):
                    return
            if as_json or info is None:
                say_record(record.value or b"", lies_at(record))
            else:
                path, answer = "→".join(info.router.path), _short(info.router.output)
                said = (
                    f"{info.id:<28} {info.router.task:<16} {path:<24} "
                    f"{dollars(info.router.cost_micros):>10}  {answer}"
                )
                say(plain(said, is_line=True))
            seen += 1

        settings = read_settings(kafka)
        async with topic_reader(Clients(settings.kafka), [settings.kafka.topics.results]) as reader:
            records = reader.follow() if follow else reader.until_end()
            async for record in records:
                why = why_not_taken(show, record)
                if why is not None:
                    say(f"tierline: {lies_at(record)} is no result: {why}", is_error=True)
                    continue
                sys.stdout.flush()
                if limit is not None and seen >= limit:
                    break
        return 0

    run(main)


def say_record(value: bytes, place: str) -> None:
    """Print a record's JSON in a line of its own, whatever somebody else has written there."""
    text = value.decode("utf-8", "replace")
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        say(f"tierline: {place} is no result: it is no JSON", is_error=True)
        return
    # Between the parts of JSON, and nowhere else, there may be ends of lines.
    _ = sys.stdout.write(escaped(re.sub(r"[\r\n]+", " ", text)) + "\n")


def _short(output: dict[str, object]) -> str:
    said = " ".join(str(value) for name, value in output.items() if name != "confidence")
    text = " ".join(said.split())
    return text if len(text) <= 70 else text[:69] + "…"

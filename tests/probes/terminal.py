"""What others wrote, printed by every command that prints it: nothing steers a terminal.

A character that clears a screen, turns the direction of writing around or shows nothing must be an
escape wherever it is printed; ids that look like markup are printed as they are.
"""

import asyncio
import contextlib
import io
import itertools
import json
import logging
import os
import re
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

import structlog

from consumers import clock
from consumers.cli.logs import configure_logs
from consumers.cli.results import say_record
from consumers.cli.terminal import console, print_json, print_table
from consumers.console.exports import csv_of
from consumers.runtime.clients import Clients
from consumers.runtime.publisher import Publisher, publisher
from consumers.runtime.topics import ensure_topics
from consumers.settings import KafkaSettings
from consumers.texts import plain, say
from schemas.codec import dead_letter_headers, dump
from schemas.dead_letter import DeadLetter, Pointer
from schemas.reasons import Reason
from schemas.topics import Topics
from tests.builders import an_attempt
from tests.probes.report import ProbeClass, Report

__all__ = ["CLASS"]

#: Each of them steers a terminal, hides text, or turns it around.
_HOSTILE = (
    *map(chr, (*range(0x09), 0x0B, 0x0C, *range(0x0E, 0x20), *range(0x7F, 0xA0))),
    *map(chr, (0xAD, 0x34F, 0x61C, 0x180E, *range(0x200B, 0x2010), *range(0x2028, 0x202F))),
    *map(chr, (*range(0x2060, 0x2070), 0x3164, 0xFEFF, *range(0xFFF9, 0xFFFC))),
    *("\ud800", "\udfff", "\U000e0001", "\U000e0041", "\U0001d173", "\ufe00", "\U000e0100"),
)
#: In text that travels as JSON or UTF-8 in Kafka: all of them but half pairs.
_SENT = "".join(one for one in _HOSTILE if not "\ud800" <= one <= "\udfff")
_MARKUP = (
    "[/foo]",
    "[bold]",
    "[red]x[/red]",
    "[/]",
    "[link=file:///etc/passwd]x",
    "\\[x]",
    ":bomb:",
    "[[",
    "{0}",
    "%s%n",
)
_SEQUENCES = (
    "\x1b[2J",
    "\x1b]0;title\x07",
    "\x1b]52;c;eA==\x07",
    "\x9b2J",
    "\x90q\x9c",
    "\x1b[6n",
    "\r\x1b[K",
    "a\u202etxt.exe",
    "\x1bc",
)


def _unseen(text: str) -> str:
    """The hostile characters that were printed as they are."""
    return "".join(sorted({one for one in text if one in _HOSTILE}))


def _printed(text: str) -> dict[str, str]:
    """A text through each way of printing."""
    ways = {
        "line": lambda: say(text),
        "error": lambda: say(text, is_error=True),
        "console": lambda: console().print(text),
        "title": lambda: print_table([{"a": "b"}], ("a",), title=text),
        "cell": lambda: print_table([{"a": text}], ("a",)),
        "head": lambda: print_table([{text: "b"}], (text,)),
        "json": lambda: print_json({"key": text}),
        "json name": lambda: print_json({text: ["x"]}),
        "log": lambda: structlog.get_logger("probe").error("x", value=text),
        "library's log": lambda: logging.getLogger("probe").error("said %s", text),
    }
    found = {}
    for name, way in ways.items():
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            if "log" in name:
                configure_logs(is_debug=False)
            way()
        found[name] = out.getvalue()
    return found


def _texts(report: Report) -> None:
    for text in (*_HOSTILE, *_SEQUENCES):
        for name, said in _printed(f"a{text}z").items():
            report.check(f"{name}: {text!r}", is_blocked=not _unseen(said), otherwise=repr(said))
        with contextlib.redirect_stdout(io.StringIO()) as out:
            print_json({"key": f"a{text}z"})
        is_same = json.loads(out.getvalue()) == {"key": f"a{text}z"}
        report.check(f"read back: {text!r}", is_blocked=is_same, otherwise=out.getvalue())
    for text in _MARKUP:
        for name, printed in _printed(text).items():
            said = printed.replace("\n", "")  # a title is folded to its table's width
            is_whole = text in said or json.dumps(text)[1:-1] in said
            report.check(f"{name}: {text}", is_blocked=is_whole, otherwise=repr(said))
    for text, before in itertools.product(_SEQUENCES, ('"', '{"a": "')):
        record = (before + text + '"}').encode()
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            say_record(record, "llm.results-0-0")
        report.check(f"record: {text!r}", is_blocked=not _unseen(out.getvalue()))
    for text in (*_SEQUENCES, "=1+1", ";=1+1"):
        cell = csv_of([[plain(text)]])
        report.check(f"cell: {text!r}", is_blocked=not re.search(r'(^|[;"])=', cell))


async def _sent(out: Publisher, topics: Topics, ids: Sequence[str]) -> None:
    """Dead letters, results, calls and requests that are as hostile as a contract lets them be."""
    now = clock.now()
    for number, id_ in enumerate(ids):
        attempt = an_attempt(
            attempt_id=f"{id_}.1.1", detail=_SENT, reply=_SENT, started_at=now, outcome="failed"
        )
        letter = DeadLetter(
            request_id=id_,
            task="support_answer",
            reason=Reason.NO_TIER_LEFT,
            detail=f"{_SENT} [/foo]",
            stage="route",
            source=Pointer(topic="llm.intake", partition=0, offset=number),
            failed_at=now,
            attempts=(attempt,),
        )
        body = {"id": id_, "task": "support_answer", "plan": "standard", "input": f"{_SENT} [/x]"}
        value, key = json.dumps(body).encode(), id_.encode()
        entry = {**attempt.model_dump(mode="json"), "request_id": id_, "at": now.isoformat()}
        result = {"id": id_, "router": {"final": True, "output": {"answer": _SENT}, "task": _SENT}}
        for topic, written, headers in (
            (topics.intake, value, ()),
            (topics.dead_letters, value, dead_letter_headers(letter, [])),
            (topics.attempts, dump(entry), ()),
            (topics.results, json.dumps(result, ensure_ascii=False).encode(), ()),
            (topics.dead_letters, _SENT.encode(), [("tierline-reason", _SENT.encode())]),
            (topics.results, f'"{_SENT}"'.encode(), ()),
        ):
            await (await out.publish(topic, written, key=key, headers=headers, partition=0))


async def _commands(report: Report, bootstrap: str) -> None:
    """The commands themselves, each in a process of its own."""
    kafka = KafkaSettings(bootstrap=bootstrap, prefix=f"term{uuid.uuid4().hex[:8]}.", partitions=1)
    await ensure_topics(Clients(kafka))
    ids = ("[/foo]", "[link=x]")
    async with publisher(Clients(kafka)) as out:
        await _sent(out, kafka.topics, ids)
    asked = [("dead-letters", "list"), ("results",), ("quality",), ("top", "--once")]
    asked += [(name, id_) for id_ in ids for name in ("explain", "trace", "replay-call")]
    asked += [("dead-letters", "show", id_) for id_ in ids]
    asked += [("try", "\u202e", "\u202e"), ("top", "--\u202eno"), ("\u202eno", "x")]
    asked += [("quality", "--since", "\u202e\x9b")]
    asked += [("explain", "no\x1b[2J\u202esuch"), ("dead-letters", "show", "[/x]\x9b")]
    for words, kind in itertools.product(asked, ([], ["--json"])):
        code, said = await _run_command([*words, *kind], kafka)
        through = None
        if (shown := _unseen(said)) or "Traceback" in said or "unexpected" in said:
            through = f"exit {code}: {shown!r} {said[-300:]!r}"
        report.note(f"command: {' '.join([*words, *kind])!r}", through=through)
        if kind and code == 0 and words[0] in ("explain", "trace"):
            report.check(
                f"id in JSON: {words}", is_blocked=words[-1] in json.dumps(json.loads(said))
            )
        elif not kind and words[0] in ("explain", "trace") and words[-1] in ids:
            report.check(
                f"id as it is: {words}", is_blocked=words[-1] in said, otherwise=said[:200]
            )


async def _run_command(words: Sequence[str], kafka: KafkaSettings) -> tuple[int, str]:
    """Exit code and everything that it printed."""
    env = {**os.environ, "TIERLINE_KAFKA__PREFIX": kafka.prefix, "PYTHONIOENCODING": "utf-8"}
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("tierline")),
        *words,
        "--kafka",
        str(kafka.bootstrap),
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode("utf-8", "surrogateescape")


async def _run(report: Report, bootstrap: str) -> None:
    _texts(report)
    await _commands(report, bootstrap)


CLASS = ProbeClass("terminal", 1000, _run, needs_broker=True)

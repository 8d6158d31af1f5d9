"""How often one accepted call goes from one of our packages into another, and where."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import orjson
import pytest

from consumers.policies import Policies
from consumers.rules import load_rules
from consumers.runtime.shell import Shell
from consumers.settings import Settings
from consumers.stages.route import Router
from schemas.base import Tier
from schemas.codec import read_model
from schemas.result import Result
from schemas.topics import Topics
from tests.builders import NOON, Restless, a_record, a_worker, decided
from tests.unit.consumers.stages.test_work import Answers

pytestmark = pytest.mark.anyio

_OURS = ("schemas", "router", "consumers")
#: It was 86 before stages were declared once.
_MOST = 40


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


@contextmanager
def _crossings() -> Iterator[list[str]]:
    """The calls within the block whose caller is of another package of ours."""
    crossings: list[str] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or _package(frame) not in _OURS:
            return
        caller = frame.f_back
        while caller is not None and _package(caller) not in _OURS:
            caller = caller.f_back
        if caller is not None and _package(caller) != _package(frame):
            crossings.append(f"{_name(caller)} -> {_name(frame)}")

    sys.setprofile(note)
    try:
        yield crossings
    finally:
        sys.setprofile(None)


def _name(frame: FrameType) -> str:
    return f"{frame.f_globals['__name__']}.{frame.f_code.co_name}"


async def test_an_accepted_call_stays_in_few_packages(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rules, topics = load_rules(Settings()), Topics()
    now: Callable[[], Any] = lambda: NOON  # noqa: E731
    asked = {"id": "r-1", "task": "general", "input": "Which day follows Monday?"}
    router = Router(Policies(rules), topics, now)
    [assigned] = decided(router, a_record(orjson.dumps(asked)))
    answers = Answers('{"answer": "Tuesday", "confidence": 0.99, "next_action": "none"}', {})
    worker = a_worker(Tier.LOW, Policies(rules), answers, now)
    shell = Shell(worker.dead_letters)
    record = a_record(assigned.value, topic=assigned.topic)
    await shell.handle(worker.handle(record, Restless()), record)  # what is worked out once, is

    with _crossings() as crossings:
        outgoing = await shell.handle(worker.handle(record, Restless()), record)

    [_, result] = outgoing
    assert read_model(Result, result.value).router.kind == "answer"
    with capsys.disabled():
        sys.stdout.write(f"\n{len(crossings)} crossings in an accepted call\n")
    assert len(crossings) <= _MOST, "\n".join(crossings)

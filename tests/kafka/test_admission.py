"""Caps on the real broker: the provider's own bill never passes one, and it is used to the last."""

import asyncio
import contextlib
import functools
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from consumers import clock, parties
from consumers.lab.simulator.settings import DEFAULT_MODELS
from consumers.parties import stages_of
from consumers.records import Source
from consumers.runtime.clients import Clients
from consumers.runtime.keyed_state import KeyedState
from consumers.settings import Settings
from consumers.wiring import running_stages
from router.money.book import Account, Book
from schemas.base import Tier
from schemas.codec import read_model
from schemas.reasons import Reason
from schemas.result import Result
from tests.kafka.flow import Flow, Seen, Sent, flow, request

pytestmark = [pytest.mark.kafka, pytest.mark.anyio]

_POLICY = Path(__file__).parents[2] / "deploy" / "policy" / "routing.yaml"
_TIERLINE = str(Path(sys.executable).with_name("tierline"))
#: Long, so that a call costs a fair part of the most that it may cost.
_LONG = "Which product is this about: the P-200 printer is out of ink. " * 180
#: Every answer passes its checks.
_SURE = {
    name: model.model_copy(update={"quality": 1.0, "strain": 0.0, "fence_rate": 0.0})
    for name, model in DEFAULT_MODELS.items()
}


def _capped(settings: Settings, folder: Path, *, dollars: str, **cap: Any) -> Settings:
    """The settings with the shipped policy and one cap."""
    text = _POLICY.read_text("utf-8")
    # Labels are short, and nothing is written to a cache.
    text = text.replace("    format: label\n", "    format: label\n    max_output_tokens: 64\n", 1)
    text = text.replace("source: simulated", "cache_write_1h: 0, source: simulated")
    where = {"task": "classification", "tier": "low"}
    row = {"where": where, "per": "month", "dollars": dollars, "because": "a test", **cap}
    file = folder / "routing.yaml"
    file.write_text(f"{text}\ncaps:\n  small: {orjson.dumps(row).decode()}\n", "utf-8")
    return settings.model_copy(update={"policy": file})


async def _accounts(settings: Settings) -> Sequence[Account]:
    """What admission remembers, of all partitions."""
    clients = Clients(settings.kafka)
    state, rows = KeyedState(clients, "admit"), list[Account]()
    for number in range(settings.kafka.partitions):
        source = Source(clients.settings.topics.admission, number)
        await state.prepare(source, 0)
        rows += Book(state.part(source)).accounts(clock.now())
    return rows


async def _until_settled(running: Flow) -> None:
    """Until the only account has spent what the provider has billed, and holds nothing back."""
    bill = running.bill.total_micros
    async with asyncio.timeout(60):
        while True:
            rows = await _accounts(running.settings)
            if [(row.spent, row.reserved, row.open) for row in rows] == [(bill, 0, 0)]:
                return


def _kinds(ends: Sequence[Seen]) -> Counter[str]:
    return Counter(read_model(Result, end.value).router.kind for end in ends)


def _plain(**fields: Any) -> Sent:
    return Sent(orjson.dumps(fields), b"r-1")


def _trace(seen: Seen) -> str:
    return (seen.header("traceparent") or "").split("-")[1]


async def test_a_burst_of_ten_times_the_cap_uses_it_and_never_passes_it(
    settings: Settings, tmp_path: Path
) -> None:
    cap = 50_000
    settings = _capped(settings, tmp_path, dollars="0.05", at_cap="refuse", hold_for="5m")
    async with flow(settings, models=_SURE, latency_scale=0.05) as running:
        workers = stages_of("work", [Tier.LOW])
        async with running_stages(settings, running.rules, running.providers, kinds=workers):
            one = len(_LONG) // 4 * 0.1
            count = int(10 * cap / one)
            await running.publish(*(request(f"r-{n}", f"{n} {_LONG}") for n in range(count)))
            ends = await running.terminal(count)
        await _until_settled(running)

        bill = running.bill.total_micros
        assert len(ends) == count
        assert 0.95 * cap <= bill <= cap
        kinds = _kinds(ends)
        assert kinds["answer"] == running.bill.count
        assert kinds["refusal"] == count - kinds["answer"]


async def test_who_waits_goes_on_and_who_is_asked_confirms_once(
    settings: Settings, tmp_path: Path
) -> None:
    settings = _capped(settings, tmp_path, dollars="0.0001", at_cap="ask")
    async with flow(settings, models=_SURE) as running:
        await running.publish(request("r-1"))
        [seen] = await running.read([running.topics.results], 1)
        asked = read_model(Result, seen.value)
        assert (asked.status, asked.router.final) == ("needs_confirmation", False)
        assert asked.router.price is not None
        price = asked.router.price.micros
        agreed = {"confirm": "r-1", "price_micros": price}
        await running.publish(_plain(**agreed | {"price_micros": price + 1}))
        await running.publish(_plain(**agreed, tenant="acme"))
        words = ("confirm", "r-1", "--kafka", str(settings.kafka.bootstrap))
        kafka = {**os.environ, "TIERLINE_KAFKA__PREFIX": settings.kafka.prefix}
        process = await asyncio.create_subprocess_exec(_TIERLINE, *words, env=kafka)
        assert await process.wait() == 0
        await running.publish(_plain(**agreed))
        _, end = await running.read([running.topics.results], 2)
        await _until_settled(running)

        assert read_model(Result, end.value).router.kind == "answer"
        assert running.bill.count == 1
        assert await running.read([running.topics.dead_letters]) == []
        assert _trace(end) == _trace(seen)


async def test_budgets_are_listed_and_a_cap_is_raised_for_somebody(
    settings: Settings, tmp_path: Path
) -> None:
    settings = _capped(settings, tmp_path, dollars="0.05", at_cap="hold", scope=["user"])
    async with flow(settings, models=_SURE) as running:
        await running.publish(_plain(id="r-1", task="classification", input="Hello", user="ann"))
        await running.terminal(1)
        await _until_settled(running)
        env = {
            **os.environ,
            "TIERLINE_KAFKA__BOOTSTRAP": str(settings.kafka.bootstrap),
            "TIERLINE_KAFKA__PREFIX": settings.kafka.prefix,
            "TIERLINE_POLICY": str(settings.policy),
        }

        async def tierline(*words: str, code: int = 0) -> str:
            process = await asyncio.create_subprocess_exec(
                *(_TIERLINE, *words),
                env=env,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            said, _ = await process.communicate()
            assert process.returncode == code, said
            return said.decode()

        budget = functools.partial(tierline, "budget")
        [row] = orjson.loads(await budget("list", "--json"))
        bill = running.bill.total_micros
        assert (row["cap"], row["key"]) == ("small", {"tenant": "default", "user": "ann"})
        assert (row["spent"], row["reserved"], row["limit"]) == (bill, 0, 50_000)
        assert "user ann" in await budget("show", "ann")

        billed, verify = tmp_path / "bill", ("verify-ledger", "--json", "--bill")
        [line] = running.bill.lines
        for more in (0, 1):
            billing = {"attempt_id": line.attempt_id, "micros": line.cost_micros + more}
            rows = f"{','.join(billing)}\n{','.join(map(str, billing.values()))}\n"
            billed.write_bytes(orjson.dumps(billing) if more else rows.encode())
            verified = orjson.loads(await tierline(*verify, str(billed), code=more))
            differing = {each["check"]: each["amount"] for each in verified["differences"]}
            assert differing == ({"ledger - bill": -1} if more else {})
            assert verified["not_compared"] == 0
            compared = {each["check"]: each["compared"] for each in verified["checks"]}
            assert (compared["ledger - counters"], compared["ledger - bill"]) == (1, 1)

        raised = ("--extra", "0.5", "--for", "1h", "--because", "A launch.")
        others = await budget("grant", "small", "user=ann", *raised, code=1)
        assert "tenant=VALUE user=VALUE was expected" in others
        whose = ("tenant=default", "user=ann")
        assert "small is $0.50 higher" in await budget("grant", "small", *whose, *raised)
        async with asyncio.timeout(30):
            while row["granted"] != 500_000:
                [row] = orjson.loads(await budget("list", "--cap", "small", "--json"))
        assert row["free"] == 550_000 - bill


@contextlib.asynccontextmanager
async def _admitting(settings: Settings, folder: Path, failpoint: str = "") -> AsyncIterator[Any]:
    """An admit process of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TIERLINE_")}
    env = {
        **kept,
        "HOME": str(folder),
        "TIERLINE_KAFKA__BOOTSTRAP": str(settings.kafka.bootstrap),
        "TIERLINE_KAFKA__PREFIX": settings.kafka.prefix,
        "TIERLINE_KAFKA__SESSION_TIMEOUT": "PT6S",
        "TIERLINE_KAFKA__HEARTBEAT_INTERVAL": "PT1S",
        "TIERLINE_POLICY": str(settings.policy),
        "TIERLINE_STATE_DIR": str(folder / "state"),
        **({"TIERLINE_FAILPOINT": failpoint} if failpoint else {}),
    }
    process = await asyncio.create_subprocess_exec(
        *(_TIERLINE, "up", "--only", "admit"), env=env, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def test_an_admit_process_that_is_killed_leaks_and_doubles_nothing(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [kind for kind in parties.STAGES if kind.role != "admit"]
    settings = _capped(settings, tmp_path, dollars="0.004", at_cap="hold")
    with monkeypatch.context() as patched:
        patched.setattr(parties, "STAGES", others)
        names = [f"r-{number}" for number in range(40)]
        async with asyncio.timeout(120), flow(settings, models=_SURE) as running:
            await running.publish(*map(request, names))
            for failpoint in ("admit.sent:3", "admit.committed:2"):
                async with _admitting(settings, tmp_path, failpoint) as process:
                    assert await process.wait() == -signal.SIGKILL
            async with _admitting(settings, tmp_path):
                ends = await running.terminal(len(names))
                await _until_settled(running)

    assert sorted(end.json["id"] for end in ends) == sorted(names)
    assert _kinds(ends) == Counter(answer=len(names))
    assert running.bill.count == len(names), "nobody was called twice"
    assert running.bill.total_micros <= 4_000
    assert Reason.BUDGET not in {end.header("tierline-reason") for end in ends}

"""How many requests a second the core of `policy replay` decides again, by two policies."""

import time
from collections.abc import Iterator

import orjson

from router.intake.admission import Admission
from router.releases.replay import Redecided
from tests.bench.harness import a_request, sized
from tests.builders import NOON, the_policy

__all__ = ["measure_replay"]

COUNT = sized(60_000, 500)
_TASKS = ("support_answer", "extraction", "triage", "billing_dispute", "complex_analysis")


def measure_replay() -> Iterator[str]:
    """Requests per second of one core's time, and what parsing takes of it."""
    policy, admission = the_policy(), Admission()
    other = policy.model_copy(update={"version": "other"})
    values = [a_request(f"r-{no}", task=_TASKS[no % len(_TASKS)]) for no in range(COUNT)]
    short = [
        orjson.dumps({"id": f"r-{no}", "task": _TASKS[no % 5], "input": f"Where is order {no}?"})
        for no in range(COUNT)
    ]
    for what, records in (("1 kB", values), ("60 bytes", short)):
        redecided = Redecided((policy, other))
        began = time.process_time()
        for value in records:
            admitted = admission.admit("llm.intake", value, (), policy, at=NOON, fallback_id="r")
            redecided.take(admitted.request, NOON)
        took = time.process_time() - began
        began = time.process_time()
        for value in records:
            admission.admit("llm.intake", value, (), policy, at=NOON, fallback_id="r")
        parsed = time.process_time() - began
        yield (
            f"replay by two policies, {what}: {COUNT / took:,.0f} requests/s and core, "
            f"{parsed / took:.0%} of it parsing   goal: >= 20,000"
        )

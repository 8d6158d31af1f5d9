"""The demo's support messages, and what the topics show of them."""

from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from consumers.records import Record
from router.attempt.pricing import cost_micros
from router.policy.table import Policy
from schemas.attempt import LedgerEntry
from schemas.base import Tier
from schemas.codec import read_dead_letter, read_envelope, read_model
from schemas.escalation import Escalation
from schemas.result import Result
from schemas.topics import Topics

__all__ = ["MESSAGES", "DemoCounts"]

#: Sixty support messages, one request a line.
MESSAGES = Path(__file__).with_name("demo.jsonl")


@dataclass(slots=True)
class DemoCounts:
    """Counts of the records read so far."""

    total: int
    calls: Counter[str] = field(default_factory=Counter)
    results: Counter[str] = field(default_factory=Counter)
    escalations: Counter[str] = field(default_factory=Counter)
    letters: Counter[str] = field(default_factory=Counter)
    spent: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    #: Calls that the terminal records count; the ledger's lines may be read after them.
    called: int = 0
    all_premium: Decimal = Decimal(0)
    first_result: float | None = None
    sample: str | None = None

    @property
    def done(self) -> int:
        """Requests with a terminal record."""
        return self.results.total() + self.letters.total()

    @property
    def is_complete(self) -> bool:
        """True when every request has its terminal record, and every call its ledger line."""
        return self.done >= self.total and self.calls.total() >= self.called

    def take(self, record: Record, topics: Topics, policy: Policy, elapsed: float) -> None:
        if record.topic == topics.attempts:
            attempt = read_model(LedgerEntry, record.value).attempt
            if attempt.outcome == "started":
                return  # the call's own line follows
            self.calls[attempt.tier] += 1
            self.spent[attempt.tier] += attempt.cost_micros
        elif record.topic == topics.escalations:
            escalation, _ = read_envelope(Escalation, record.value)
            self.escalations[escalation.reason.value] += 1
        elif record.topic == topics.dead_letters:
            letter = read_dead_letter(record.headers)
            self.letters[letter.reason.value] += 1
            self.called += len(letter.attempts)
        else:
            result = read_model(Result, record.value)
            info = result.router
            self.results[info.tier] += 1
            self.called += info.attempts
            self.latencies.append(info.latency.total_ms)
            self.first_result = elapsed if self.first_result is None else self.first_result
            if len(info.path) > 1 or self.sample is None:
                self.sample = result.id
            if info.attempts:
                # One premium call with the tokens of the average attempt of this request.
                premium = policy.models[policy.models_of(Tier.PREMIUM)[0]].price
                self.all_premium += Decimal(cost_micros(info.usage, premium)) / info.attempts

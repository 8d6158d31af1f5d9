"""Verification: what accounts have spent, what the ledger has booked and what was billed agree."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

import orjson

from router.money.accounts import ACCOUNT, Account, place_of
from router.policy.caps import Facts, caps_of
from router.policy.table import Policy
from schemas.attempt import CallId, LedgerEntry

__all__ = ["Calls", "against_bill", "against_counters", "book_call"]


class _Booked(NamedTuple):
    """A call as the ledger has it; `reservation` has paid for it where a cap touched it."""

    certainty: int
    amounts: Mapping[str, int]
    reservation: str | None
    reserved_at: datetime
    is_verifier: bool
    facts: Facts


#: Each call once.
Calls = dict[CallId, _Booked]


def book_call(calls: Calls, entry: LedgerEntry, policy: Policy) -> None:
    """Add a line of the ledger: a measured one replaces an estimate, and a started one is none."""
    attempt = entry.attempt
    former = calls.get(attempt.call_id)
    if attempt.outcome == "started" or (former and former.certainty >= attempt.certainty):
        return
    whose = entry.user, entry.task, entry.workflow, entry.conversation or entry.request_id
    facts = Facts(entry.tenant, policy.plan_name(entry.plan), attempt.tier, entry.key.text, *whose)
    amounts = {"dollars": attempt.cost_micros, "tokens": attempt.usage.total_tokens}
    paid_by = entry.reservation, entry.reserved_at or attempt.started_at
    is_verifier = attempt.step == "verify"
    calls[attempt.call_id] = _Booked(attempt.certainty, amounts, *paid_by, is_verifier, facts)


def against_counters(
    accounts: Iterable[Account], calls: Calls, policy: Policy, still_open: Collection[str]
) -> Mapping[bytes, int]:
    """What the ledger has more than each account that can be compared, by its place.

    Shares count requests, and an account whose cap the policy has no longer, or with another unit
    or window, cannot be told from the ledger. What open reservations have paid is not spent yet.
    """
    paid = [
        call for call in calls.values() if call.reservation and call.reservation not in still_open
    ]
    # A verifier's call counts in the tier of the answer that it reads.
    tiers = {call.reservation: call.facts.tier for call in paid if not call.is_verifier}
    booked: Counter[bytes] = Counter()
    for call in paid:
        facts = call.facts._replace(tier=tiers.get(call.reservation, call.facts.tier))
        for named in caps_of(policy, facts):
            place = place_of(named, facts, call.reserved_at)
            booked[place] += call.amounts.get(named.cap.unit, 0)
    kinds = {name: [cap.unit, cap.per, cap.zone] for name, cap in policy.caps.items()}
    return {
        account.place: booked[account.place] - account.spent
        for account in accounts
        if orjson.loads(account.place[len(ACCOUNT) :])[2:5] == kinds.get(account.cap)
        and account.unit != "premium_share"
    }


def against_bill(calls: Calls, bill: Mapping[str, int]) -> Mapping[str, int]:
    """What the ledger has more than the provider's bill, by attempt."""
    more = Counter({name: -micros for name, micros in bill.items()})
    for (attempt_id, _), call in calls.items():
        more[attempt_id] += call.amounts["dollars"]
    return more

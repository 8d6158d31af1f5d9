"""Cases in the console that another tenant's records and reviewers reach for."""

from datetime import datetime
from typing import Any

from consumers.console.auth import Role, Visitor
from consumers.console.inputs import filter_of
from consumers.console.sessions import Session
from consumers.console.store import Store
from schemas.dead_letter import Pointer
from schemas.reasons import Reason
from schemas.tenancy import UNKNOWN_TENANT
from tests.builders import NOON
from tests.probes.report import Report
from tests.unit.consumers.console.world import (
    a_decision,
    a_letter_record,
    a_line_record,
    a_result_record,
    place,
    take,
    taken,
)

__all__ = ["try_cases"]


async def try_cases(report: Report, store: Store) -> None:
    """Cases of equal ids end with their own tenant's records, and are shown to it alone."""
    tenants = ("acme", "beta", "default", "ACME")
    for offset, tenant in enumerate(tenants):
        await take(store, a_letter_record(offset, request_id="req-1", tenant=tenant))
    broken: dict[str, Any] = {
        "request_id": "req-1",
        "tenant": UNKNOWN_TENANT,
        "reason": Reason.NOT_JSON,
    }
    await take(store, a_letter_record(len(tenants), **broken))

    async def states() -> list[str]:
        return [(await taken(store, offset)).state for offset in range(len(tenants))]

    for tenant in ("gamma", UNKNOWN_TENANT, "Acme", "acme ", "acme\0", "", "beta.", "default~"):
        await take(store, a_result_record("req-1", 2, tenant=tenant))
        expected = ["open"] * 2 + ["closed" if tenant == "" else (await states())[2]] + ["open"]
        report.check(f"a result of {tenant!r}", is_blocked=await states() == expected)
    for tenant in ("beta", "default", "ACME"):
        resolves = place(0)
        await take(store, a_result_record("other", 1, tenant=tenant, resolves=resolves))
        report.check(f"{tenant} resolves acme's case", is_blocked=(await states())[0] == "open")
        await take(
            store, a_result_record(f"brief.{resolves}", tenant=tenant, output={"answer": "!"})
        )
        report.check(f"{tenant} briefs acme's case", is_blocked=await store.brief(resolves) is None)
        forged = a_decision(0, f"forged-{tenant}", request_id="req-1", tenant=tenant)
        await take(store, a_line_record(50 + tenants.index(tenant), decision=forged))
        report.check(f"{tenant} decides acme's case", is_blocked=(await states())[0] == "open")
        same_source = Pointer(topic="llm.intake", partition=1, offset=0)
        fields: dict[str, Any] = {"tenant": tenant, "generation": 2, "source": same_source}
        fields["request_id"] = "req-1"
        await take(store, a_letter_record(20 + tenants.index(tenant), **fields))
        report.check(f"{tenant} follows acme's letter", is_blocked=(await states())[0] == "open")
    await take(store, a_result_record("req-1", 2, tenant="acme"))
    report.check("its own result ends it", is_blocked=(await states())[:2] == ["closed", "open"])
    await _sights(report, store)


async def _sights(report: Report, store: Store) -> None:
    for allowed in (("acme",), ("beta",), ("ACME",), ("acme", UNKNOWN_TENANT), ("_",), ("",)):
        visitor = _visitor(allowed)
        for given in ({}, {"tenant": "beta"}, {"tenant": UNKNOWN_TENANT}, {"text": "req-1"}):
            wanted = filter_of({**given, "state": "all"}, visitor)
            found = {case.tenant for case in await store.cases(wanted, NOON)}
            seen = found <= set(allowed) - {UNKNOWN_TENANT}
            report.check(f"{allowed} looks for {given}", is_blocked=seen)
        report.check(f"{allowed} opens nobody's case", is_blocked=not visitor.sees(UNKNOWN_TENANT))


def _visitor(tenants: tuple[str, ...], now: datetime = NOON) -> Visitor:
    session = Session("hash", "ann", Role.REVIEWER.value, frozenset(tenants), now, now)
    return Visitor(session, "csrf")

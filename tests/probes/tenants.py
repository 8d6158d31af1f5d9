"""Producers, records and reviewers of one tenant that reach for what is another's."""

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
from aiokafka import TopicPartition

from consumers.console.store import open_store
from consumers.journeys.journey import Journey
from consumers.records import Source
from consumers.runtime.clients import Clients
from consumers.settings import KafkaSettings, RepeatSettings
from consumers.stages.repeats import Repeats
from router.intake.admission import Admission, Proven, as_admitted
from router.intake.signatures import Key
from router.review.decisions import refusal_of
from schemas.attempt import LedgerEntry
from schemas.codec import read_dead_letter
from schemas.dead_letter import DeadLetter, Pointer
from schemas.escalation import Assignment
from schemas.feedback import Feedback
from schemas.intake import read_request
from schemas.reasons import Reason
from schemas.tenancy import UNKNOWN_TENANT, RequestKey
from schemas.topics import Topics
from tests.builders import (
    NOON,
    a_record,
    a_request,
    an_assignment,
    an_attempt,
    decided,
    policies_of,
    the_policy,
)
from tests.probes.report import ProbeClass, Report
from tests.probes.signatures import SECRET, TEXT, body, end_of, router_of, try_signatures
from tests.probes.tenant_cases import try_cases
from tests.tables import behind, tables, take
from tests.unit.consumers.console.world import (
    a_decision,
    a_letter_record,
)

__all__ = ["CLASS"]


async def _run(report: Report, _bootstrap: str) -> None:
    await _same_ids(report)
    _reserved_names(report)
    _broken_records(report)
    try_signatures(report)
    _ways(report)
    _joined_keys(report)
    _inner_records(report)
    _folds(report)
    _journeys(report)
    with tempfile.TemporaryDirectory() as folder:
        async with open_store(f"sqlite:///{Path(folder) / 'store.db'}") as store:
            await try_cases(report, store)


CLASS = ProbeClass("tenants", least=500, run=_run)


def _shapes(tenant: str, request_id: str, text: str) -> Iterator[tuple[str, bytes, Any]]:
    """One request in every shape that intake reads."""
    ours = {"id": request_id, "tenant": tenant, "task": "support_answer", "input": text}
    yield "ours", orjson.dumps(ours), ()
    said = {"tenant": tenant, "task": "support_answer"}
    chat = {"messages": [{"role": "user", "content": text}], "metadata": said}
    line = {"custom_id": request_id, "method": "POST", "url": "/v1/chat/completions", "body": chat}
    yield "batch", orjson.dumps(line), ()
    del ours["id"]
    event = {"specversion": "1.0", "id": "e-1", "source": "/s", "type": "t"}
    event["correlationid"] = request_id
    yield "event", orjson.dumps({**event, "data": ours}), ()
    headers = [(f"ce_{name}", attribute.encode()) for name, attribute in event.items()]
    yield "binary event", orjson.dumps(ours), headers


async def _same_ids(report: Report) -> None:
    """An id that one tenant has sent first, or in another order, is no other's repeat or reuse."""
    ids = ("req-1", "a~b", "llm.x-0-1x", "x" * 200)
    pairs = (("acme", "beta"), ("acme", "default"), ("default", "acme"), ("acme", "ACME"))
    for request_id, (one, other), is_same in itertools.product(ids, pairs, (True, False)):
        for no, first in enumerate(_shapes(one, request_id, TEXT)):
            repeats = Repeats(Clients(KafkaSettings()), RepeatSettings(), policies_of())
            await repeats.prepare(Source("llm.intake", 1), 0)
            router = router_of(repeats=repeats)
            text = TEXT if is_same else f"{TEXT} Please!"
            second = list(_shapes(other, request_id, text))[no]
            ends = [
                end_of(decided(router, a_record(value, headers=headers, offset=offset)))
                for offset, (_, value, headers) in enumerate((first, second))
            ]
            report.check(
                f"{first[0]}: {one} before {other}, {request_id[:12]}, same body: {is_same}",
                is_blocked=[type(end) for end in ends] == [Assignment, Assignment],
            )


def _reserved_names(report: Report) -> None:
    ids: list[Any] = [
        "brief.llm.dead-letters-0-1",
        "brief.",
        "brief.x",
        "replay.req-1",
        "~req-1",
        RequestKey("acme", "req-1").text,
        "llm.intake-0-99",
        "llm.dead-letters-3-5",
        "staging.llm.intake-0-0",
        "llm.intake.acme-0-17",
        "llm.tier.low-1-1",
        "llm.escalations-1-2",
    ]
    for name in ids:
        for shape, value, headers in _shapes("beta", name, TEXT):
            end = end_of(decided(router_of(), a_record(value, headers=headers)))
            is_refused = isinstance(end, DeadLetter) and end.reason is Reason.RESERVED_NAME
            report.check(f"id {name} as {shape}", is_blocked=is_refused)
    for tenant in (UNKNOWN_TENANT, "_", "_UNKNOWN", "_default", "__proto__"):
        for shape, value, headers in _shapes(tenant, "req-1", TEXT):
            end = end_of(decided(router_of(), a_record(value, headers=headers)))
            is_refused = isinstance(end, DeadLetter) and end.reason is Reason.RESERVED_NAME
            is_refused = is_refused and end is not None and end.tenant == UNKNOWN_TENANT
            report.check(f"tenant {tenant} as {shape}", is_blocked=is_refused)
    odd = (
        "",
        " ",
        "acme ",
        " acme",
        "ac me",
        "acme\n",
        "acme\0",
        "\u0430cme",
        "acme\u200b",
        "\uff41cme",
    )
    others: Sequence[Any] = (None, 7, ["acme"], {"acme": 1}, True, "x" * 201)
    for name in (*odd, *others):
        end = end_of(decided(router_of(), a_record(body(id="r", tenant=name))))
        is_refused = isinstance(end, DeadLetter) and end.tenant == UNKNOWN_TENANT
        report.check(f"tenant {name!r:.20}", is_blocked=is_refused)


def _broken_records(report: Report) -> None:
    """A record that cannot be read is its own tenant's, or nobody's; never another's."""
    cut = body(tenant="beta", id="r")
    for name, value, headers, expected in (
        ("cut off", cut[:-3], (), "beta"),
        ("cut within the text", cut[: cut.index(b"parcel")], (), UNKNOWN_TENANT),
        ("no tenant", b'{"input": "x', (), UNKNOWN_TENANT),
        ("named twice", b'{"tenant":"acme","tenant":"beta","input":"x"}', (), UNKNOWN_TENANT),
        ("in the text", b'{"input":"\\"tenant\\":\\"acme\\"', (), UNKNOWN_TENANT),
        ("a header", b"{", [("tenant", b"beta")], "beta"),
        ("two headers", b"{", [("tenant", b"beta"), ("tenant", b"acme")], UNKNOWN_TENANT),
        ("header and body", cut[:-3], [("tenant", b"acme")], UNKNOWN_TENANT),
        ("not UTF-8", b'{"tenant":"beta","input":"\xff"}', (), "beta"),
        ("tenant not UTF-8", b'{"tenant":"be\xff","input":"x"}', (), UNKNOWN_TENANT),
        ("too large", body(tenant="beta", context={"user": "x" * (1 << 20)}), (), "beta"),
        ("field at the end", b'{"input":"' + b"x" * 70_000 + b'\xff","tenant":"beta"}', (), "beta"),
        ("no input", b'{"tenant":"beta"}', (), "beta"),
        ("no value", None, (), UNKNOWN_TENANT),
        ("reserved", b'{"tenant":"_unknown","input":"\xff"}', (), UNKNOWN_TENANT),
        ("a list", b'[{"tenant":"beta"}]', (), "beta"),
        ("bad number", b'{"tenant":"beta","input":"x","ambiguity":NaN}', (), "beta"),
    ):
        end = end_of(decided(router_of(), a_record(value, headers=headers)))
        is_kept = isinstance(end, DeadLetter) and end.tenant == expected
        report.check(f"broken: {name}", is_blocked=is_kept)
    for topic, value in (
        ("llm.escalations", b'{"id":"x","tenant":"beta","reason":"no_such","request":{}}'),
        ("llm.escalations", b'{"id":"x","request":{"tenant":"beta"}}'),
        ("llm.escalations", b'{"id":"x","tenant":"acme","request":{"tenant":"beta"}}'),
    ):
        end = end_of(decided(router_of(), a_record(value, topic=topic)))
        expected = UNKNOWN_TENANT if b"acme" in value else "beta"
        report.check(
            f"broken hop {value[:30]!r}",
            is_blocked=isinstance(end, DeadLetter) and end.tenant == expected,
        )
    last_resort, source = router_of().dead_letters, TopicPartition("llm.intake", 1)
    [pointer] = last_resort.pointer(source, 7, Reason.UNREADABLE_RECORD, "why")
    found = read_dead_letter(pointer.headers)
    report.check("a record that nobody can fetch", is_blocked=found.tenant == UNKNOWN_TENANT)


def _ways(report: Report) -> None:
    """A topic, a gateway's header, and what nobody has proven."""
    topic = "llm.intake.acme"
    bound = Admission(
        {topic: Proven("acme", "starter")},
        "x-principal",
        {"CN=beta": Proven("beta", "starter")},
        {"k1": Key(SECRET, frozenset(("gamma",)))},
    )
    principal = [("x-principal", b"CN=beta")]
    for name, topic_name, headers, fields in (
        ("another tenant on a topic", topic, [], {"tenant": "beta"}),
        ("the default tenant on a topic", topic, [], {"tenant": "default"}),
        ("capitals on a topic", topic, [], {"tenant": "ACME"}),
        ("a dearer plan on a topic", topic, [], {"plan": "enterprise"}),
        ("another principal on a topic", topic, principal, {}),
        ("a bound tenant elsewhere", "llm.intake", [], {"tenant": "acme"}),
        ("a look-alike of it", "llm.intake", [], {"tenant": "Acme"}),
        ("a tenant of a key", "llm.intake", [], {"tenant": "gamma"}),
        ("a tenant of a principal", "llm.intake", [], {"tenant": "beta"}),
        ("a dearer plan without proof", "llm.intake", [], {"plan": "enterprise"}),
        ("another tenant by a principal", "llm.intake", principal, {"tenant": "acme"}),
        ("a dearer plan by a principal", "llm.intake", principal, {"plan": "enterprise"}),
        ("a principal that nobody knows", "llm.intake", [("x-principal", b"CN=x")], {}),
        ("a principal in other letters", "llm.intake", [("x-principal", b"cn=BETA")], {}),
        ("a principal without text", "llm.intake", [("x-principal", b"\xff")], {}),
        ("two principals", "llm.intake", [*principal, *principal], {}),
        ("two principals by case", "llm.intake", [*principal, ("X-Principal", b"CN=x")], {}),
    ):
        record = a_record(body(id="r", **fields), topic=topic_name, headers=headers)
        end = end_of(decided(router_of(bound), record))
        is_dead = isinstance(end, DeadLetter) and end.reason.is_refused
        report.check(f"way: {name}", is_blocked=is_dead)
        claimed = fields.get("tenant", "")
        is_framed = isinstance(end, DeadLetter) and end.tenant == claimed
        report.check(f"way: {name}: not filed under whom it names", is_blocked=not is_framed)
    careless: Sequence[tuple[str, dict[str, Any]]] = (
        ("blast radius", {"blast_radius": "low", "input": "Delete all production data now!"}),
        ("ambiguity", {"ambiguity": 0.0, "input": "It is broken, fix something"}),
        ("justification", {"justification": "the board wants it"}),
    )
    for name, lowers in careless:
        record = a_record(body(id="r", **lowers))
        end, value = end_of(decided(router_of(bound), record)), record.value
        if not isinstance(end, Assignment):
            report.note(f"way: unproven {name}", through="it was not routed")
            continue
        counted = as_admitted(read_request(value, {}, fallback_id="r"), end)
        claim = next(iter(lowers))
        report.check(
            f"way: {name} that makes us careless", is_blocked=getattr(counted, claim) is None
        )
    raised = a_record(body(id="r", blast_radius="high"))
    end = end_of(decided(router_of(bound), raised))
    counted = as_admitted(read_request(raised.value, {}, fallback_id="r"), end)  # type: ignore[arg-type]
    report.check("caution may be raised", is_blocked=counted.blast_radius == "high")
    proof = Admission(requires_proof=True)
    claims: Sequence[dict[str, Any]] = (
        {},
        {"tenant": "acme"},
        {"tenant": "default", "plan": "enterprise"},
    )
    for said in claims:
        end = end_of(decided(router_of(proof), a_record(body(id="r", **said))))
        is_dead = isinstance(end, DeadLetter) and end.reason is Reason.NOT_PROVEN
        report.check(f"no proof: {said}", is_blocked=is_dead)
    gateway = Admission(keys={"gw": Key(SECRET)})
    for tenant in ("acme", "Default", "DEFAULT", "x"):
        end = end_of(decided(router_of(gateway), a_record(body(id="r", tenant=tenant))))
        is_dead = isinstance(end, DeadLetter) and end.reason is Reason.NOT_PROVEN
        report.check(f"past a gateway that speaks for all: {tenant}", is_blocked=is_dead)
    broken = a_record(b'{"tenant":"beta","input":', topic=topic)
    end = end_of(decided(router_of(bound), broken))
    report.check(
        "a broken record is its topic's, whatever it says",
        is_blocked=isinstance(end, DeadLetter) and end.tenant == "acme",
    )
    last_resort, source = router_of(bound).dead_letters, TopicPartition(topic, 1)
    [pointer] = last_resort.pointer(source, 7, Reason.UNREADABLE_RECORD, "why")
    report.check(
        "an unreadable one too", is_blocked=read_dead_letter(pointer.headers).tenant == "acme"
    )


def _joined_keys(report: Report) -> None:
    """No two of these keys have the same text, nor the same attempts."""
    parts = ("a", "b", "a.b", "a~b", "a/b", "a:b", "default", "1", "a.1", "a.1.1", "~", "a|b", "A")
    keys = [RequestKey(tenant, name) for tenant, name in itertools.product(parts, parts)]
    keys = [key for key in keys if not (key.tenant == "default" and key.id.startswith("~"))]
    for one, other in itertools.islice(itertools.combinations(keys, 2), 0, None, 97):
        report.check(f"{one!r} and {other!r}", is_blocked=one.text != other.text)
    ids = {
        f"{key.text}.{generation}.{no}"
        for key in keys
        for generation, no in itertools.product((1, 2, 11), (1, 2, 11))
    }
    report.check("attempts are told apart", is_blocked=len(ids) == 9 * len(keys))
    longest = RequestKey("t" * 200, "i" * 200).text
    report.check("the longest key fits an attempt's id", is_blocked=len(f"{longest}.99.99") <= 240)


def _inner_records(report: Report) -> None:
    """What travels with a request's bytes says whose it is, whatever these say."""
    request = a_request(tenant="beta", plan="enterprise", justification="please")
    for model in (an_assignment, _a_letter):
        said = model(tenant="acme", plan="starter", is_unproven=True)
        counted = as_admitted(request, said)
        report.check(
            f"{model.__name__}: its word counts",
            is_blocked=(counted.tenant, counted.plan, counted.justification)
            == ("acme", "starter", None),
        )
        old = as_admitted(request, model(tenant=None) if model is an_assignment else said)
        report.check(
            f"{model.__name__}: an old one goes by the request",
            is_blocked=old.tenant == ("beta" if model is an_assignment else "acme"),
        )
    for reason in Reason:
        if not reason.is_refused:
            continue
        letter = _a_letter(reason=reason)
        for action in ("approve", "edit", "retry", "requeue", "reject"):
            decision = a_decision(0, request_id="req-1", action=action, tenant="acme")
            report.check(
                f"{action} of {reason.value}",
                is_blocked=refusal_of(decision, letter, the_policy()) is not None,
            )
    for tenant in ("beta", "default", "ACME"):
        decision = a_decision(0, request_id="req-1", action="requeue", tenant=tenant)
        report.check(
            f"a decision of {tenant} on acme's case",
            is_blocked=refusal_of(decision, _a_letter(), the_policy()) is not None,
        )


def _a_letter(**fields: Any) -> DeadLetter:
    plain = {
        "request_id": "req-1",
        "tenant": "acme",
        "task": "support_answer",
        "reason": Reason.NO_TIER_LEFT,
        "detail": "",
        "stage": "route",
        "source": Pointer(topic="llm.intake", partition=1, offset=7),
        "failed_at": NOON,
    }
    return DeadLetter.model_validate({**plain, **fields})


def _folds(report: Report) -> None:
    """A tenant's feedback and dead letters say nothing of another's answers."""
    told: list[Any] = []
    for tenant in ("acme", "beta"):
        attempt = an_attempt(outcome="accepted", reason=None)
        told.append(LedgerEntry(request_id="req-1", generation=1, tenant=tenant, attempt=attempt))
    with tables(told) as kept:
        calls = behind(kept, "calls")
        report.check("two tenants' calls are two", is_blocked=len(set(calls)) == 2)
        take(kept, [Feedback(request_id="req-1", tenant="beta", kind="complaint", at=NOON)])
        report.check(
            "a complaint is about the tenant's own answer",
            is_blocked=behind(kept, "by person") == [str(RequestKey("beta", "req-1"))],
        )
        take(kept, [Feedback(request_id="req-1", kind="complaint", at=NOON)])
        report.check(
            "feedback without a tenant is the default one's",
            is_blocked=len(behind(kept, "by person")) == 1,
        )


def _journeys(report: Report) -> None:
    """The story of a request has nothing of another tenant's in it."""
    topics = Topics()
    records = [
        a_record(body(id="req-1", tenant="acme")),
        a_record(body(id="req-1", tenant="beta"), offset=8),
    ]
    records += [
        a_letter_record(offset, request_id="req-1", tenant=tenant)
        for offset, tenant in enumerate(("acme", "beta", "default"))
    ]
    for tenant in ("acme", "beta", "default"):
        journey = Journey("req-1", tenant)
        for record in records:
            journey.read(record, topics)
        whose = [letter.tenant for _, letter in journey.letters]
        report.check(f"the journey of {tenant}", is_blocked=whose == [tenant])
    every = Journey("req-1")
    for record in records:
        every.read(record, topics)
    report.check(
        "all are told where none is named",
        is_blocked=every.tenants == {"acme", "beta", "default"},
    )

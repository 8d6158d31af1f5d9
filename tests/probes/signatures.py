"""Signatures that were made, changed, sent again or put on by somebody who may not."""

import base64
import hmac
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import orjson

from consumers.stages.repeats import Repeats
from consumers.stages.route import Router
from router.intake.admission import Admission
from router.intake.signatures import SIGNATURE, Key, signature_of
from schemas.codec import Outgoing, read_dead_letter, read_envelope
from schemas.dead_letter import DeadLetter
from schemas.escalation import Assignment
from schemas.reasons import Reason
from schemas.tenancy import UNKNOWN_TENANT
from schemas.topics import Topics
from tests.builders import NOON, a_record, decided, policies_of
from tests.probes.report import Report

__all__ = ["SECRET", "body", "end_of", "router_of", "try_signatures"]

TEXT = "Where is my parcel 4711, which I ordered last week?"
SECRET = b"acme's secret of 32 bytes or more"
_OTHERS, _RETIRED = b"b" * 40, b"c" * 40
_HOUR = timedelta(hours=1)
_CLAIMS = {
    "tenant": "acme",
    "plan": "enterprise",
    "id": "r-1",
    "expires": int(NOON.timestamp()) + 600,
}


def body(**fields: Any) -> bytes:
    return orjson.dumps({"task": "support_answer", "input": TEXT, **fields})


def end_of(made: Sequence[Outgoing]) -> DeadLetter | Assignment | None:
    if not made:
        return None
    if made[0].topic == "llm.dead-letters":
        return read_dead_letter(made[0].headers)
    return read_envelope(Assignment, made[0].value)[0]


def router_of(admission: Admission | None = None, repeats: Repeats | None = None) -> Router:
    return Router(
        policies_of(), Topics(), lambda: NOON, repeats, admission=admission or Admission()
    )


def _signed_admission(**fields: Any) -> Admission:
    keys = {
        "k1": Key(SECRET, frozenset(("acme",)), frozenset(("starter", "enterprise"))),
        "k2": Key(_OTHERS, frozenset(("beta",)), frozenset(("starter",))),
        "gw": Key(b"g" * 40),
    }
    return Admission(keys=keys, longest=_HOUR, **fields)


def _signature(value: bytes, key: str = "k1", secret: bytes = SECRET, **claims: Any) -> bytes:
    return signature_of(value, secret, {**_CLAIMS, "key": key, **claims})


def _mac(payload: bytes, secret: bytes, domain: bytes = b"tierline-signature-v1\n") -> bytes:
    def text(raw: bytes) -> bytes:
        return base64.urlsafe_b64encode(raw).rstrip(b"=")

    return b".".join((b"v1", text(payload), text(hmac.digest(secret, domain + payload, "sha256"))))


def _bad_signatures(value: bytes, good: bytes) -> Iterator[tuple[str, Sequence[bytes], bytes]]:
    """Name, signature headers, and the value they come with."""
    version, payload, mac = good.split(b".")
    raw = base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4))
    fields = orjson.loads(raw)
    now = int(NOON.timestamp())
    yield "none", [], value
    yield "empty", [b""], value
    yield "twice the same", [good, good], value
    yield "a bad one before a good one", [b"x", good], value
    yield "a bad one after a good one", [good, b"x"], value
    yield "another body", [good], value + b" "
    yield "another text", [good], body(id="r-1", input="Something else, please, at once")
    yield "another id in the body", [_signature(body(id="r-1"))], body(id="r-2")
    yield "another id signed", [_signature(value, id="r-2")], value
    yield "another tenant in the body", [good], body(id="r-1", tenant="beta")
    yield "expired", [_signature(value, expires=now - 1)], value
    yield "expires now", [_signature(value, expires=now)], value
    yield "good for too long", [_signature(value, expires=now + 3601)], value
    yield "good for ever", [_signature(value, expires=1 << 40)], value
    yield "another's key", [_signature(value, "k2", _OTHERS)], value
    yield "another's key under our name", [_signature(value, "k1", _OTHERS)], value
    yield "a key that was taken away", [_signature(value, "k0", _RETIRED)], value
    yield "a plan that the key may not give", [_signature(value, plan="unlimited")], value
    yield "a plan for everybody", [_signature(value, plan="*")], value
    for cut in (1, 10, len(mac), len(mac) + 1, len(good) - 3):
        yield f"cut by {cut}", [good[:-cut]], value
    yield "no payload", [version + b".." + mac], value
    yield "no mac", [version + b"." + payload + b"."], value
    yield "two parts", [version + b"." + payload], value
    yield "four parts", [good + b".x"], value
    yield "another version", [b"v2." + payload + b"." + mac], value
    yield "padding", [good + b"="], value
    yield "a blank", [good + b" "], value
    yield "a line end", [good + b"\n"], value
    yield "not ASCII", [good + b"\xff"], value
    yield "very long", [good + b"A" * 100_000], value
    yield "another MAC", [version + b"." + payload + b"." + mac[::-1]], value
    yield "no domain", [_mac(raw, SECRET, b"")], value
    yield "a key of nothing", [_mac(raw, b"")], value
    yield "the key's name as key", [_mac(raw, b"k1")], value
    swapped = orjson.dumps({**fields, "tenant": "beta"})
    told = base64.urlsafe_b64encode(swapped).rstrip(b"=")
    yield "a payload put in later", [version + b"." + told + b"." + mac], value
    for name, payload_text in (
        ("alg none", orjson.dumps({**fields, "alg": "none"})),
        ("alg other", orjson.dumps({**fields, "alg": "HS1"})),
        ("key named twice", raw[:-1] + b',"key":"k1"}'),
        ("tenant named twice", raw[:-1] + b',"tenant":"beta"}'),
        ("no expiry", orjson.dumps({k: v for k, v in fields.items() if k != "expires"})),
        ("no body", orjson.dumps({k: v for k, v in fields.items() if k != "body"})),
        ("no id", orjson.dumps({k: v for k, v in fields.items() if k != "id"})),
        ("expiry as text", orjson.dumps({**fields, "expires": str(fields["expires"])})),
        ("expiry as a fraction", orjson.dumps({**fields, "expires": float(fields["expires"])})),
        ("expiry below zero", orjson.dumps({**fields, "expires": -1})),
        ("body in capitals", orjson.dumps({**fields, "body": fields["body"].upper()})),
        ("tenant reserved", orjson.dumps({**fields, "tenant": UNKNOWN_TENANT})),
        ("tenant with a blank", orjson.dumps({**fields, "tenant": "acme "})),
        ("tenant in capitals", orjson.dumps({**fields, "tenant": "ACME"})),
        ("a list", orjson.dumps([fields])),
        ("no JSON", b"acme"),
    ):
        yield name, [_mac(payload_text, SECRET)], value
    jwt = b".".join((base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"="), payload, b""))
    yield "a JWT without algorithm", [jwt], value


def try_signatures(report: Report) -> None:
    value = body(id="r-1")
    admission = _signed_admission(requires_proof=True)
    good = _signature(value)
    [made] = decided(router_of(admission), a_record(value, headers=[(SIGNATURE, good)]))
    envelope = end_of([made])
    report.check(
        "what is signed rightly goes its way, with its tenant and plan",
        is_blocked=isinstance(envelope, Assignment)
        and (envelope.tenant, envelope.plan) == ("acme", "enterprise")
        and not any(name == SIGNATURE for name, _ in made.headers),
    )
    for name, signatures, sent in _bad_signatures(value, good):
        headers = [(SIGNATURE, one) for one in signatures]
        end = end_of(decided(router_of(admission), a_record(sent, headers=headers)))
        is_dead = isinstance(end, DeadLetter) and (
            end.reason.is_refused or end.reason is Reason.INVALID_FIELD
        )
        report.check(f"signature: {name}", is_blocked=is_dead)
        if isinstance(end, DeadLetter) and end.reason is Reason.BAD_SIGNATURE:
            report.check(
                f"signature: {name}: filed under nobody", is_blocked=end.tenant == UNKNOWN_TENANT
            )
    for header in ("Tierline-Signature", "TIERLINE-SIGNATURE"):
        both = [(SIGNATURE, good), (header, _signature(value, plan="starter"))]
        end = end_of(decided(router_of(admission), a_record(value, headers=both)))
        report.check(f"signature twice, as {header}", is_blocked=isinstance(end, DeadLetter))
    attributes = {"specversion": b"1.0", "id": b"r-1", "source": b"/s", "type": b"t"}
    events = [*((f"ce_{name}", value) for name, value in attributes.items()), (SIGNATURE, good)]
    for more in ([], [("content-type", b"text/plain")]):
        end = end_of(decided(router_of(admission), a_record(value, headers=[*events, *more])))
        report.check(f"signed, then made an event {more}", is_blocked=isinstance(end, DeadLetter))
    for tenant in (UNKNOWN_TENANT, "_x"):
        forged = signature_of(
            value, b"g" * 40, {**_CLAIMS, "key": "gw", "tenant": tenant, "plan": None}
        )
        end = end_of(decided(router_of(admission), a_record(value, headers=[(SIGNATURE, forged)])))
        is_dead = isinstance(end, DeadLetter) and end.reason is Reason.RESERVED_NAME
        report.check(f"a gateway that signs for {tenant}", is_blocked=is_dead)
    late = a_record(value, headers=[(SIGNATURE, good)])
    late.timestamp += 3_600_000
    router = Router(policies_of(), Topics(), lambda: NOON + 2 * _HOUR, admission=admission)
    end = end_of(decided(router, late))
    report.check("replayed after its end", is_blocked=isinstance(end, DeadLetter))

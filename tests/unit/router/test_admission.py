"""Whose a request is; what is refused is tried by the probes of class `tenants`."""

from datetime import datetime, timedelta
from typing import Any

import orjson
import pytest

from consumers.settings import Settings
from router.intake.admission import Admission, Admitted, Proven, as_admitted
from router.intake.signatures import SIGNATURE, Key, signature_of
from schemas.errors import ContractError
from schemas.reasons import Reason
from tests.builders import NOON, a_request, an_assignment, the_policy

_OLD, _NEW = b"o" * 32, b"n" * 32
_KEYS = {"old": Key(_OLD, frozenset(("acme",))), "new": Key(_NEW, frozenset(("acme",)))}


def _admit(
    admission: Admission,
    value: bytes,
    *headers: tuple[str, bytes],
    at: datetime = NOON,
    **more: Any,
) -> Admitted:
    topic = more.get("topic", "llm.intake")
    return admission.admit(topic, value, headers, the_policy(), at=at, fallback_id="place-1")


def _value(**fields: Any) -> bytes:
    return orjson.dumps({"id": "r-1", "task": "triage", "input": "hello there", **fields})


def _signature(value: bytes, key: str, secret: bytes, **claims: Any) -> tuple[str, bytes]:
    until = int((NOON + timedelta(minutes=10)).timestamp())
    plain = {"key": key, "tenant": "acme", "id": "r-1", "expires": until}
    return SIGNATURE, signature_of(value, secret, {**plain, **claims})


def test_without_settings_everybody_is_believed() -> None:
    request, is_unproven = _admit(Admission(), _value(tenant="acme", plan="enterprise"))

    assert (request.tenant, request.plan, is_unproven) == ("acme", "enterprise", False)


def test_a_topic_gives_its_tenant_and_plan_to_what_names_none() -> None:
    admission = Admission({"llm.intake.acme": Proven("acme", "enterprise")})

    request, is_unproven = _admit(admission, _value(), topic="llm.intake.acme")

    assert (request.tenant, request.plan, is_unproven) == ("acme", "enterprise", False)


def test_a_principal_gives_its_tenant() -> None:
    admission = Admission(principal_header="x-who", principals={"CN=acme": Proven("acme")})

    request, _ = _admit(admission, _value(), ("X-Who", b"CN=acme"))

    assert request.tenant == "acme"


@pytest.mark.parametrize(("key", "secret"), [("old", _OLD), ("new", _NEW)])
def test_while_keys_are_changed_both_are_good(key: str, secret: bytes) -> None:
    value = _value()

    request, _ = _admit(Admission(keys=_KEYS), value, _signature(value, key, secret))

    assert request.tenant == "acme"


def test_a_signature_is_judged_by_when_the_record_was_appended() -> None:
    value = _value()
    header = _signature(value, "new", _NEW)
    admission = Admission(keys=_KEYS)

    _admit(admission, value, header, at=NOON + timedelta(minutes=10, seconds=-1))
    with pytest.raises(ContractError, match="expired"):
        _admit(admission, value, header, at=NOON + timedelta(minutes=10))


def test_ways_that_say_different_things_prove_nothing() -> None:
    value = _value()
    admission = Admission({"llm.intake.beta": Proven("beta")}, keys=_KEYS)

    with pytest.raises(ContractError) as refused:
        _admit(admission, value, _signature(value, "new", _NEW), topic="llm.intake.beta")

    assert refused.value.reason is Reason.IDENTITY_MISMATCH


def test_a_plan_that_the_policy_does_not_know_counts_as_the_default_one_and_is_no_claim() -> None:
    request, is_unproven = _admit(Admission(keys=_KEYS), _value(plan="gold"))

    assert (request.tenant, request.plan, is_unproven) == ("default", "gold", True)


def test_an_assignment_from_before_goes_by_its_request() -> None:
    request = a_request(tenant="acme", plan="enterprise")

    assert as_admitted(request, an_assignment()) is request


def test_a_signature_must_not_outlive_the_memory_of_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = orjson.dumps({"k": {"secret": "x" * 32}}).decode()
    monkeypatch.setenv("TIERLINE_INTAKE__KEYS", keys)
    monkeypatch.setenv("TIERLINE_REPEATS__WINDOW", "PT30M")

    with pytest.raises(ValueError, match="LONGEST_SIGNATURE"):
        Settings()


def test_further_topics_come_from_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIERLINE_KAFKA__INTAKES", '{"acme": {"tenant": "acme"}}')

    topics = Settings().kafka.topics

    assert topics.all_intakes == ("llm.intake", "llm.intake.acme")
    assert "llm.intake.acme" in dict(topics.all())


@pytest.mark.parametrize("tenant", ["_unknown", "", "a b"])
def test_no_settings_bind_a_reserved_or_broken_name(
    tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIERLINE_KAFKA__INTAKES", orjson.dumps({"x": {"tenant": tenant}}).decode())

    with pytest.raises(ValueError, match="tenant"):
        Settings()

"""Admission: whose a request is, and what of its producer's word counts.

A producer can write anything into a record, but it cannot choose the topic that it may write to,
the principal that a gateway has authenticated, or a signature. Where the settings bind tenants and
plans to those, they are proven, and what the record claims has to agree. Without such settings
every producer that may write to intake is believed.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from pydantic import TypeAdapter, ValidationError

from router.intake.signatures import SIGNATURE, Key, verified
from router.request.signals import measure
from schemas.admission import Confirmation
from schemas.base import Identifier
from schemas.codec import Headers, text_headers
from schemas.dead_letter import DeadLetter
from schemas.errors import ContractError
from schemas.escalation import Assignment, Escalation
from schemas.intake import claims_of, read_raw_request
from schemas.reasons import Reason
from schemas.request import Request
from schemas.tenancy import DEFAULT_TENANT, UNKNOWN_TENANT, is_reserved_id, is_reserved_tenant

if TYPE_CHECKING:  # it loads every check, and the read model admits requests without a policy
    from router.policy.table import Policy

__all__ = ["Admission", "Admitted", "Proven", "as_admitted", "claimed_id", "claimed_tenant"]
__all__ += ["read_again"]

_IDENTIFIER: TypeAdapter[str] = TypeAdapter(Identifier)
#: A tenant's name in JSON that cannot be parsed: a plain search for its beginning is much faster.
_FIELD = b'"tenant"'
#: Names of tenants in one record that are looked at.
_MOST_NAMED = 100
_TENANT = re.compile(rb'"tenant"\s*:\s*"([^"\\]{0,800})"')
#: Headers that may name the tenant of a record whose body cannot.
_TENANT_HEADERS = ("tenant", "tierline-tenant", "ce_tenant")
_ID = re.compile(rb'"(?:id|custom_id)"\s*:\s*"([!#-\[\]-~]{1,200})"')
#: Bytes in which an id is looked for.
_LOOKED_AT = 64 * 1024
_RADII = ("low", "medium", "high")


class Proven(NamedTuple):
    """Whose a request is, by something that its producer cannot choose."""

    tenant: str
    #: None: no plan is proven.
    plan: str | None = None
    #: The id that was signed.
    request_id: str | None = None


class Admitted(NamedTuple):
    """A request with the tenant and the plan that count for it."""

    request: Request
    is_unproven: bool = False


@dataclass(frozen=True)
class Admission:
    """What tenants and plans are bound to; by default to nothing."""

    #: By the topic's name on the broker.
    topics: Mapping[str, Proven] = field(default_factory=dict)
    #: The header in which a gateway names the principal that it has authenticated; "" for none.
    principal_header: str = ""
    principals: Mapping[str, Proven] = field(default_factory=dict)
    keys: Mapping[str, Key] = field(default_factory=dict)
    #: How long after its record was appended a signature may expire.
    longest: timedelta = timedelta(hours=1)
    #: Requests that prove no tenant are refused.
    requires_proof: bool = False

    @cached_property
    def binds(self) -> bool:
        """True where a tenant can be proven, or has to be."""
        return bool(self.topics or self.principals or self.keys or self.requires_proof)

    @cached_property
    def _bound(self) -> frozenset[str]:
        """The tenants that can be proven, in lower case."""
        proven = (*self.topics.values(), *self.principals.values())
        named = [tenant for key in self.keys.values() for tenant in key.tenants or ()]
        return frozenset(tenant.lower() for tenant in (*named, *(bound.tenant for bound in proven)))

    def admit(
        self,
        topic: str,
        value: bytes | None,
        headers: Headers,
        policy: "Policy",
        *,
        at: datetime,
        fallback_id: str,
    ) -> Admitted:
        """The request of an intake record that was appended at an instant. Raises ContractError."""
        proven = self._proven(topic, value, headers, at) if self.binds else None
        request = read_raw_request(value, headers, fallback_id=fallback_id)
        if request.tenant != DEFAULT_TENANT and is_reserved_tenant(request.tenant):
            detail = "tenant: names that begin with _ are given to no producer"
            raise ContractError(Reason.RESERVED_NAME, detail)
        if request.id != fallback_id and is_reserved_id(request.id):
            detail = (
                "id: ids that begin with brief., replay. or ~ or name a record's place are given "
                "out by Tierline alone"
            )
            raise ContractError(Reason.RESERVED_NAME, detail)
        if not self.binds:
            return Admitted(request)
        if proven is None:
            if self._is_bound(request.tenant):
                detail = "tenant: this one has to be proven, by a topic, a gateway or a signature"
                raise ContractError(Reason.NOT_PROVEN, detail)
            _refuse_plan(request, policy)
            return Admitted(_cautious(request), is_unproven=True)
        if "tenant" in request.model_fields_set and request.tenant != proven.tenant:
            raise ContractError(Reason.IDENTITY_MISMATCH, "tenant: another tenant was proven")
        if proven.request_id not in (None, request.id):
            raise ContractError(Reason.IDENTITY_MISMATCH, "id: another id was signed")
        plan = request.plan
        if proven.plan is None:
            _refuse_plan(request, policy)
        elif plan not in (None, proven.plan):
            raise ContractError(Reason.IDENTITY_MISMATCH, "plan: another plan was proven")
        counting = {"tenant": proven.tenant, "plan": proven.plan or plan}
        return Admitted(request.model_copy(update=counting))

    def confirmation(
        self, topic: str, value: bytes | None, headers: Headers, *, at: datetime
    ) -> Confirmation | None:
        """What a record on intake confirms, `{"confirm": ID, "price_micros": N}`, and for whom.

        None for any other record. Raises ContractError.
        """
        try:
            claims = claims_of(orjson.loads(value or b""), text_headers(headers))
        except orjson.JSONDecodeError:
            return None
        if "confirm" not in claims:
            return None
        proven = self._proven(topic, value, headers, at) if self.binds else None
        own = proven.tenant if proven is not None else DEFAULT_TENANT
        fields = {"request_id": claims["confirm"], "tenant": claims.get("tenant", own), "at": at}
        try:
            agreed = Confirmation.model_validate(
                {**fields, "price_micros": claims.get("price_micros")}
            )
        except ValidationError:
            detail = "confirm, price_micros: a request's id and whole micro-dollars were expected"
            raise ContractError(Reason.INVALID_FIELD, detail) from None
        if proven is None and self.binds and self._is_bound(agreed.tenant):
            raise ContractError(Reason.NOT_PROVEN, "tenant: this one has to be proven")
        if proven is not None and agreed.tenant != proven.tenant:
            raise ContractError(Reason.IDENTITY_MISMATCH, "tenant: another tenant was proven")
        if proven is not None and proven.request_id not in (None, agreed.request_id):
            raise ContractError(Reason.IDENTITY_MISMATCH, "confirm: another id was signed")
        return agreed

    def tenant_of(
        self,
        topic: str,
        value: bytes | None,
        headers: Headers,
        at: datetime,
        *,
        is_parsed: bool = False,
    ) -> str:
        """The tenant of the dead letter of a record that was not admitted; see `claimed_tenant`."""
        if self.binds:
            try:
                if (proven := self._proven(topic, value, headers, at)) is not None:
                    return proven.tenant
            except ContractError:
                bound = self.topics.get(topic)
                return bound.tenant if bound else UNKNOWN_TENANT
        claimed = claimed_tenant(value, headers, is_parsed=is_parsed)
        return UNKNOWN_TENANT if self._is_bound(claimed) else claimed

    def _is_bound(self, tenant: str) -> bool:
        """True for a tenant that can be proven, or a name that differs from it by case alone."""
        if tenant != DEFAULT_TENANT and any(key.tenants is None for key in self.keys.values()):
            return True  # that key may sign for every tenant
        return tenant.lower() in self._bound

    def _proven(
        self, topic: str, value: bytes | None, headers: Headers, at: datetime
    ) -> Proven | None:
        """What is proven of a record's tenant and plan. Raises ContractError."""
        proofs = [self.topics[topic]] if topic in self.topics else []
        if self.principal_header and (values := _all_of(self.principal_header, headers)):
            principal = values[0].decode("utf-8", "replace")
            if len(values) > 1 or principal not in self.principals:
                detail = f"{self.principal_header}: one principal of the settings was expected"
                raise ContractError(Reason.NOT_PROVEN, detail)
            proofs.append(self.principals[principal])
        if signatures := _all_of(SIGNATURE, headers):
            is_event = any(name.lower().startswith("ce_") for name, _ in headers)
            if len(signatures) > 1 or is_event:
                detail = "one signature was expected, and no ce_ headers, which it does not cover"
                raise ContractError(Reason.BAD_SIGNATURE, detail)
            claims = verified(signatures[0], value or b"", self.keys, at, self.longest)
            proofs.append(Proven(claims.tenant, claims.plan, claims.id))
        if not proofs:
            if self.requires_proof:
                detail = "a topic, a principal or a signature was expected that proves the tenant"
                raise ContractError(Reason.NOT_PROVEN, detail)
            return None
        tenants = {proof.tenant for proof in proofs}
        plans = {proof.plan for proof in proofs if proof.plan}
        if len(tenants) > 1 or len(plans) > 1:
            detail = "tenant, plan: topic, principal and signature do not agree"
            raise ContractError(Reason.IDENTITY_MISMATCH, detail)
        tenant = tenants.pop()
        if is_reserved_tenant(tenant):
            detail = "tenant: names that begin with _ are given to no producer"
            raise ContractError(Reason.RESERVED_NAME, detail)
        return Proven(tenant, next(iter(plans), None), proofs[-1].request_id)


def as_admitted(request: Request, record: Assignment | Escalation | DeadLetter) -> Request:
    """A request that was read again from its bytes, as intake admitted it.

    The record that carries the bytes names its tenant and plan; old records name none.
    """
    admitted = {"tenant": record.tenant or request.tenant, "plan": record.plan or request.plan}
    if (request.tenant, request.plan) != tuple(admitted.values()):
        request = request.model_copy(update=admitted)
    return _cautious(request) if record.is_unproven else request


def read_again(
    value: bytes | None,
    headers: Headers,
    record: Assignment | Escalation | DeadLetter,
    *,
    fallback_id: str,
) -> Request:
    """The request that a record carries, read from its bytes, as intake admitted it.

    Raises ContractError.
    """
    return as_admitted(read_raw_request(value, headers, fallback_id=fallback_id), record)


def claimed_tenant(value: bytes | None, headers: Headers, *, is_parsed: bool) -> str:
    """The tenant that a record claims which could not be read as a request.

    `is_parsed`: it is JSON, though no request. All claims in it have to agree. The tenant is
    unknown where they do not, where no producer may use the name, or where nothing can be parsed.
    """
    claimed: list[Any] = [
        header.decode("utf-8", "replace")
        for name in _TENANT_HEADERS
        for header in _all_of(name, headers)
    ]
    try:
        # It has been read strictly before, which may be slow: once is enough.
        body = orjson.loads(value or b"") if is_parsed else None
        claims = claims_of(body, text_headers(headers)) if is_parsed else None
    except (ContractError, orjson.JSONDecodeError):
        claims = None
    if claims is None:
        claimed += [name.decode("utf-8", "replace") for name in _named(value or b"")]
    elif "tenant" in claims or not claimed:
        claimed.append(claims.get("tenant", DEFAULT_TENANT))
    if not claimed or any(other != claimed[0] for other in claimed):
        return UNKNOWN_TENANT
    try:
        tenant = _IDENTIFIER.validate_python(claimed[0], strict=True)
    except ValidationError:
        return UNKNOWN_TENANT
    return UNKNOWN_TENANT if is_reserved_tenant(tenant) else tenant


def claimed_id(value: bytes | None) -> str | None:
    """The id that an unreadable record seems to have, so that people can find it."""
    match = _ID.search(value or b"", 0, _LOOKED_AT)
    return match[1].decode("ascii") if match else None


def _named(text: bytes) -> Iterator[bytes]:
    """The names of tenants in JSON that cannot be parsed."""
    at = text.find(_FIELD)
    for _ in range(_MOST_NAMED):
        if at < 0:
            return
        match = _TENANT.match(text, at)
        # A quote inside a text is escaped with a backslash.
        if match is not None and text[at - 1 : at] != b"\\":
            yield match[1]
        at = text.find(_FIELD, at + len(_FIELD))


def _all_of(name: str, headers: Headers) -> Sequence[bytes]:
    return [value or b"" for header, value in headers if header.lower() == name]


def _refuse_plan(request: Request, policy: "Policy") -> None:
    """Refuse an unproven plan other than the default one. Raises ContractError."""
    if request.plan in policy.plans and request.plan != policy.default_plan:
        detail = f"plan: only {policy.default_plan} may be claimed without proof"
        raise ContractError(Reason.NOT_PROVEN, detail)


def _cautious(request: Request) -> Request:
    """The request with only those claims that are more careful than our own estimates."""
    names = ("ambiguity", "blast_radius", "complexity")
    kept: dict[str, object] = dict.fromkeys(("justification", *names))
    own = measure(request.model_copy(update=kept))
    if request.ambiguity is not None and request.ambiguity > own.ambiguity:
        kept["ambiguity"] = request.ambiguity
    if request.complexity is not None and request.complexity > own.complexity:
        kept["complexity"] = request.complexity
    radius = request.blast_radius
    if radius is not None and _RADII.index(radius) > _RADII.index(own.blast_radius):
        kept["blast_radius"] = radius
    return request.model_copy(update=kept)

"""Signatures of requests: proof of their tenant that other writers of the topic cannot forge.

The header `tierline-signature` holds `v1.PAYLOAD.MAC`, both in base64url without padding. The
payload is JSON: `key, tenant, plan, id, body` (SHA-256 of the record's value in hexadecimal) and
`expires` (seconds since 1970). The MAC is HMAC-SHA256 over the payload as it stands there, with
`tierline-signature-v1` and a line end before it. A signature names no algorithm: the key's is the
only one.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.base import Identifier
from schemas.errors import ContractError
from schemas.json_text import parse_json
from schemas.reasons import Reason

__all__ = ["SIGNATURE", "Claims", "Key", "signature_of", "verified"]

SIGNATURE = "tierline-signature"
_VERSION = b"v1"
#: So that a signature made with the same key for another purpose is not valid here.
_DOMAIN = b"tierline-signature-v1\n"
_LONGEST = 4096
_BAD = Reason.BAD_SIGNATURE


class Claims(BaseModel):
    """What a signature says of its record."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    key: Identifier
    tenant: Identifier
    plan: Annotated[str, Field(max_length=200)] | None = None
    id: Identifier
    body: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    expires: Annotated[int, Field(ge=0, le=1 << 40)]


@dataclass(frozen=True, slots=True)
class Key:
    """A secret, with the tenants and plans it may sign for."""

    secret: bytes
    #: None: for every tenant, as a gateway's does.
    tenants: frozenset[str] | None = None
    #: The plans it may give; None: every plan.
    plans: frozenset[str] | None = None


def signature_of(value: bytes, secret: bytes, claims: Mapping[str, object]) -> bytes:
    """The header's value; `claims` are those of `Claims` without `body`."""
    fields = {**claims, "body": hashlib.sha256(value).hexdigest()}
    payload = orjson.dumps({name: field for name, field in fields.items() if field is not None})
    mac = hmac.digest(secret, _DOMAIN + payload, "sha256")
    return b".".join((_VERSION, _encoded(payload), _encoded(mac)))


def verified(
    header: bytes, value: bytes, keys: Mapping[str, Key], at: datetime, longest: timedelta
) -> Claims:
    """What a signature proves of a record that was appended at `at`.

    It may not expire later than `longest` after that. Raises ContractError.
    """
    parts = header.split(b".")
    if len(header) > _LONGEST or len(parts) != 3 or parts[0] != _VERSION:
        raise ContractError(_BAD, "v1.PAYLOAD.MAC was expected")
    payload, mac = _decoded(parts[1]), _decoded(parts[2])
    try:
        fields = parse_json(payload)
        claims = Claims.model_validate(fields)
    except (ContractError, ValidationError):
        words = "its payload does not have the fields key, tenant, plan, id, body and expires"
        raise ContractError(_BAD, words) from None
    key = keys.get(claims.key)
    if key is None:
        raise ContractError(_BAD, "no such key is known")
    if not hmac.compare_digest(hmac.digest(key.secret, _DOMAIN + payload, "sha256"), mac):
        raise ContractError(_BAD, "it was not made with this key, or its payload was changed")
    if not hmac.compare_digest(hashlib.sha256(value).hexdigest(), claims.body):
        raise ContractError(_BAD, "it is the signature of another body")
    if key.tenants is not None and claims.tenant not in key.tenants:
        raise ContractError(_BAD, "the key does not speak for this tenant")
    if key.plans is not None and claims.plan is not None and claims.plan not in key.plans:
        raise ContractError(_BAD, "the key may not give this plan")
    if at.timestamp() >= claims.expires:
        raise ContractError(_BAD, "it had expired when the record was appended")
    if claims.expires - at.timestamp() > longest.total_seconds():
        raise ContractError(
            _BAD, f"it expires more than {longest.total_seconds():.0f} s after the record"
        )
    return claims


def _encoded(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def _decoded(text: bytes) -> bytes:
    """Raises ContractError for base64url that is not written as we write it."""
    try:
        raw = base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise ContractError(_BAD, "base64url was expected") from None
    if _encoded(raw) != text:
        raise ContractError(_BAD, "base64url without padding was expected")
    return raw

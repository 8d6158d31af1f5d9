"""Tenants: whose a request is, and how its id stands for it where only one text fits.

Producers choose ids, so two tenants may choose the same one. An id means something only together
with its tenant: a `RequestKey` wherever two requests are told apart.
"""

import base64
import hashlib
import re
from functools import lru_cache
from typing import NamedTuple

from schemas.topics import TOPICS

__all__ = [
    "BRIEF_IDS",
    "DEFAULT_TENANT",
    "UNKNOWN_TENANT",
    "RequestKey",
    "is_reserved_id",
    "is_reserved_tenant",
]

#: Whose a request is that names no tenant, and a record from before records named theirs.
DEFAULT_TENANT = "default"
#: Whose a record is that says of no tenant in a way that can be read or believed. No producer may
#: use the name; who sees only some tenants' cases never sees these.
UNKNOWN_TENANT = "_unknown"
#: The request that asks for a case's brief is named so, with the case's place behind it.
BRIEF_IDS = "brief."

#: What stands before an id whose tenant is not the default one.
_MARK = "~"
#: Ids that only we give out: they begin so, or name a record's place.
_RESERVED_IDS = (BRIEF_IDS, "replay.", _MARK)
_TOPIC_NAMES = "|".join(re.escape(spec.name) for spec in TOPICS)
_PLACE = re.compile(rf".*(?:{_TOPIC_NAMES})(?:\.[A-Za-z0-9._-]+)?-[0-9]+-[0-9]+")


class RequestKey(NamedTuple):
    """A request, among those of all tenants."""

    tenant: str
    id: str

    @property
    def text(self) -> str:
        """The key as one text of printable ASCII, a different one for every two keys.

        The default tenant's ids stand as they are. Before another tenant's stands the hash of its
        name, which has always the same length, and which tells no provider who our tenants are;
        no producer's id may begin with its mark.
        """
        if self.tenant == DEFAULT_TENANT:
            return self.id
        return f"{_MARK}{_digest(self.tenant)}{_MARK}{self.id}"

    def __str__(self) -> str:
        return self.id if self.tenant == DEFAULT_TENANT else f"{self.id} of {self.tenant}"


def is_reserved_id(request_id: str) -> bool:
    """True for an id that only the product gives out."""
    if request_id.startswith(_RESERVED_IDS):
        return True
    return "llm." in request_id and _PLACE.fullmatch(request_id) is not None


def is_reserved_tenant(tenant: str) -> bool:
    """True for the name of a tenant that no producer may use."""
    return tenant.startswith("_")


@lru_cache(maxsize=4096)
def _digest(tenant: str) -> str:
    """128 bits in 22 letters: short enough to stand in an attempt's id beside the longest id."""
    name = tenant.encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(name, digest_size=16).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

"""Tenants: whose a request is, and how tenant and id are written as one text.

Producers choose ids, so two tenants may choose the same one. An id is unique only together with its
tenant: requests are told apart by their `RequestKey`.
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

#: The tenant of requests that name none, and of old records, which named none.
DEFAULT_TENANT = "default"
#: The tenant of records that name none that can be read or believed. No producer may use the name,
#: and reviewers who see only some tenants' cases never see these.
UNKNOWN_TENANT = "_unknown"
#: The beginning of the ids of requests for a case's brief; the case's place follows.
BRIEF_IDS = "brief."

#: Comes before a tenant's hash and before its id, unless it is the default tenant.
_MARK = "~"
#: Beginnings of ids that only we give out, as are those that name a record's place.
_RESERVED_IDS = (BRIEF_IDS, "replay.", _MARK)
_TOPIC_NAMES = "|".join(re.escape(spec.name) for spec in TOPICS)
_PLACE = re.compile(rf".*(?:{_TOPIC_NAMES})(?:\.[A-Za-z0-9._-]+)?-[0-9]+-[0-9]+")


class RequestKey(NamedTuple):
    """Identifies a request among those of all tenants."""

    tenant: str
    id: str

    @property
    def text(self) -> str:
        """The key as one text of printable ASCII, unique for each key.

        Ids of the default tenant are unchanged. Others are preceded by a hash of the tenant's name,
        which has a fixed length and does not tell providers who our tenants are. No producer's id
        may begin with the mark before it.
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
    """128 bits in 22 letters: they fit into an attempt's id together with the longest id."""
    name = tenant.encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(name, digest_size=16).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

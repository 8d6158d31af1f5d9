"""Settings of how people sign in to the console: by one token, or by OpenID Connect."""

import re
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, SecretStr, field_validator, model_validator

from consumers.addresses import check_url, is_this_machine

__all__ = ["OidcSettings", "TokenSettings"]

_Role = Literal["viewer", "reviewer", "operator", "admin"]
_LEAST_TOKEN = 32


class TokenSettings(BaseModel):
    """Sign-in to the console by one token: in a browser, or as a bearer token of the API."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: At least 32 characters, for example of `openssl rand -hex 32`.
    secret: SecretStr
    #: What its holder may do.
    role: _Role = "reviewer"
    #: Whose cases are seen; None: all.
    tenants: frozenset[str] | None = None

    @field_validator("secret")
    @classmethod
    def _long(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        if len(text) < _LEAST_TOKEN or not text.isascii() or not re.fullmatch(r"[!-~]+", text):
            msg = f"at least {_LEAST_TOKEN} characters of ASCII without blanks were expected"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _tenants(self) -> Self:
        if self.tenants is not None and (
            self.role == "admin"
            or not self.tenants
            or any(len(t.split()) != 1 for t in self.tenants)
        ):
            msg = "tenants without blanks were expected, and none for an admin, who sees all"
            raise ValueError(msg)
        return self


class OidcSettings(BaseModel):
    """Sign-in to the console by OpenID Connect."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: The issuer's address, as its tokens name it; https, but for one on this machine.
    issuer: str
    #: Also an issuer at an address that is not public, and with plain http.
    allow_private: bool = False
    #: As the issuer knows the console.
    client_id: str
    #: None: a public client, whose proof is PKCE alone.
    client_secret: SecretStr | None = None
    #: What is asked of the issuer.
    scope: str = "openid email"
    #: The claim that names the person.
    name_claim: str = "email"
    #: The claim that holds their roles or groups.
    role_claim: str = "groups"
    #: Which value of that claim gives which role; the highest one counts, none: no entry.
    roles: dict[str, _Role]
    #: The claim that names the tenants whose cases somebody sees; None: everybody sees all.
    tenant_claim: str | None = None

    @model_validator(mode="after")
    def _callable(self) -> "OidcSettings":
        try:
            check_url(self.issuer, allow_private=self.may_be_private)
        except ValueError as error:
            msg = f"issuer: {error}"
            raise ValueError(msg) from None
        if set(self.issuer) & {"?", "#"}:  # its document's address is made of it
            msg = "issuer: an address without a query was expected"
            raise ValueError(msg)
        return self

    @property
    def may_be_private(self) -> bool:
        """True where the issuer may be at a private address: by a setting, or on this machine."""
        return self.allow_private or is_this_machine(urlsplit(self.issuer).hostname or "")

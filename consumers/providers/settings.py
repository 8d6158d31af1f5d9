"""Settings of one provider: where it is, how it is spoken to, and where its key lies."""

import os
import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated
from urllib.parse import quote, unquote_to_bytes, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from consumers.addresses import check_url
from router.prompts.chat_fields import CHAT_FIELDS, OPENAI, OURS, ChatFields
from schemas.base import Tier
from schemas.errors import TierlineError
from schemas.spans import Span

__all__ = [
    "ModelLimits",
    "ProviderSettings",
    "ProviderSettingsError",
    "sent_fields",
    "under_names",
    "variable_of",
]

#: A token of RFC 9110, section 5.6.2.
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
#: Ends of a path that are added to the base URL, by format.
_ENDPOINTS = {
    "openai": ("/chat/completions", "/completions", "/responses", "/embeddings", "/models"),
    "anthropic": ("/messages", "/complete", "/models"),
    "gemini": (":generateContent", ":streamGenerateContent", "/models"),
}
#: Where the interfaces of well-known hosts begin, as their references say (read in 2026-11).
_PATHS = {
    "api.openai.com": "/v1",
    "api.anthropic.com": "/v1",
    "generativelanguage.googleapis.com": "/v1beta",
    "api.mistral.ai": "/v1",
    "api.x.ai": "/v1",
    "api.groq.com": "/openai/v1",
    "api.together.xyz": "/v1",
    "api.fireworks.ai": "/inference/v1",
    "api.moonshot.ai": "/v1",
    "api.moonshot.cn": "/v1",
    "api.cerebras.ai": "/v1",
    "openrouter.ai": "/api/v1",
    "open.bigmodel.cn": "/api/paas/v4",
    "dashscope.aliyuncs.com": "/compatible-mode/v1",
    "dashscope-intl.aliyuncs.com": "/compatible-mode/v1",
}
#: User and password of a URL (RFC 3986, section 3.2.1): their other characters are %-encoded.
_LOGIN = re.compile(
    r"(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+:"
    r"(?:[A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})*"
)
#: A dotted path of names.
_FIELD = r"^[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,64}){0,4}$"


class ProviderSettingsError(TierlineError):
    """A provider cannot be used as it is set up; the message says which and what to do."""


class ModelLimits(BaseModel):
    """What the provider allows for one model; None: no limit that we know of."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    #: Calls.
    requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    #: Input and output together.
    tokens_per_minute: Annotated[int, Field(ge=1)] | None = None
    #: Calls at once, per process.
    concurrency: Annotated[int, Field(ge=1)] | None = None
    #: How long it is left alone after five failures in a row; longer with every probe that fails.
    first_break: Span = timedelta(seconds=30)
    #: Which part each tier may use; None: the tiers that use the model share evenly.
    share: dict[Tier, Annotated[float, Field(gt=0, le=1)]] | None = None

    @model_validator(mode="after")
    def _within(self) -> "ModelLimits":
        if self.share is not None and sum(self.share.values()) > 1 + 1e-9:
            msg = f"share: the parts add up to {sum(self.share.values()):g}; 1 is all there is"
            raise ValueError(msg)
        return self


class ProviderSettings(BaseModel):
    """How to reach one provider."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    #: With the version part of the path, for example `https://api.example.com/v1`.
    base_url: str
    #: The format it speaks: a name in `consumers.providers.wires`.
    wire: str = "openai"
    #: The environment variable that holds the key.
    api_key_env: str | None = None
    #: The mounted file that holds it. Neither: no key is sent.
    api_key_file: Path | None = None
    #: The header that carries the key; None: the format's own. In `authorization` it is a bearer.
    key_header: str | None = None
    #: Sent with every call, for gateways that want more than a key.
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    #: Under the base URL, with `{model}` for the model's id; None: the format's own.
    path: Annotated[str, Field(pattern=r"^/[!$-;=@-\[\]_a-~]*$")] | None = None
    #: Behind the path, for example `api-version`. It is shown; secrets belong into headers.
    query: dict[str, str] = Field(default_factory=dict)
    #: True for servers that send our `x-request-id` back: a reply with another one is refused.
    echoes_request_id: bool = False
    #: Trusted instead of the usual authorities, as a PEM file: for servers with one of your own.
    ca_file: Path | None = None
    #: Fields of a producer's chat body that it is sent beside those of its format, by dotted path.
    chat_fields: frozenset[Annotated[str, Field(pattern=_FIELD)]] = frozenset()
    #: Also plain http and addresses that are not public. Metadata services stay out of reach.
    allow_private: bool = False
    #: An egress proxy through which it is called, as `http://HOST:PORT`, with `USER:PASSWORD@`
    #: where it wants to know who we are. The environment's `HTTPS_PROXY` is never read. What the
    #: provider's name resolves to, the proxy alone decides then.
    proxy: SecretStr | None = None
    #: The proxy may be at an address that is not public, and speak plain http.
    allow_private_proxy: bool = False
    #: How long a connection may take, its TLS handshake included.
    connect_timeout: Span = timedelta(seconds=5)
    #: The account's limits by model id; `*` for all models that are not named.
    limits: dict[str, ModelLimits] = Field(default_factory=dict)
    #: A longer reply, counted after decompression, is given up.
    max_reply_bytes: Annotated[int, Field(ge=1024)] = 1 << 20

    @field_validator("base_url")
    @classmethod
    def _whole(cls, value: str) -> str:
        if "?" in value or "#" in value:
            msg = "a URL without query and fragment was expected"
            raise ValueError(msg)
        check_url(value, allow_private=True)  # whether it may be private is another setting's word
        return value.rstrip("/")

    @field_validator("proxy")
    @classmethod
    def _no_path(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        login, url = _login_and_url(value.get_secret_value())
        check_url(url, allow_private=True)
        if urlsplit(url).path not in ("", "/") or set(url) & {"?", "#"}:
            msg = "http://HOST:PORT was expected, without a path"
            raise ValueError(msg)
        if login and not _LOGIN.fullmatch(login):
            msg = "USER:PASSWORD before the @ was expected, special characters as %40"
            raise ValueError(msg)
        return value

    @field_validator("headers")
    @classmethod
    def _one_line(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, secret in value.items():
            text = secret.get_secret_value()
            if not (_HEADER.fullmatch(name) and text.isascii() and text.isprintable()):
                msg = f"{name[:64]!r}: a header's name, and a value of one line of ASCII text"
                raise ValueError(msg)
        return value

    @field_validator("chat_fields")
    @classmethod
    def _not_ours(cls, value: frozenset[str]) -> frozenset[str]:
        if ours := sorted(value & OURS):
            msg = f"{', '.join(ours)}: set by Tierline in every call, so none can be let through"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _allowed(self) -> "ProviderSettings":
        try:
            check_url(self.base_url, allow_private=self.allow_private)
        except ValueError as error:
            msg = f"base_url: {error}"
            raise ValueError(msg) from None
        added = (self.path,) if self.path else _ENDPOINTS.get(self.wire, ())
        for end in added:
            if self.base_url.endswith(end):
                msg = f"base_url: the URL without {end} was expected: that is added to it"
                raise ValueError(msg)
        if self.is_bare and (path := _PATHS.get(self.host)):
            msg = f"base_url: https://{self.host}{path} was expected, with its path"
            raise ValueError(msg)
        if self.proxy_url is not None:
            try:
                check_url(self.proxy_url, allow_private=self.allow_private_proxy)
            except ValueError as error:
                problem = str(error).replace("allow_private", "allow_private_proxy")
                msg = f"proxy: {problem}"
                raise ValueError(msg) from None
        return self

    def limits_of(self, model_id: str) -> ModelLimits:
        """What the provider allows for a model."""
        return self.limits.get(model_id) or self.limits.get("*") or ModelLimits()

    @property
    def proxy_url(self) -> str | None:
        """The proxy, without who we are to it."""
        return _login_and_url(self.proxy.get_secret_value())[1] if self.proxy else None

    @property
    def proxy_with_login(self) -> SecretStr | None:
        """The same with user and password, whose bytes the client library sends as they are."""
        if self.proxy is None:
            return None
        login, url = _login_and_url(self.proxy.get_secret_value())
        if not login:
            return SecretStr(url)
        # It takes them for Latin-1.
        parts = (unquote_to_bytes(one).decode("latin-1") for one in login.split(":", 1))
        said = ":".join(quote(one, safe="") for one in parts)
        return SecretStr(url.replace("://", f"://{said}@", 1))

    @property
    def is_bare(self) -> bool:
        """True for a URL without any path, which few servers answer at."""
        return self.path is None and not urlsplit(self.base_url).path

    @property
    def host(self) -> str:
        """The host that is called, in lower case."""
        return urlsplit(self.base_url).hostname or ""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.base_url)
        return self.host, parts.port or (443 if parts.scheme == "https" else 80)

    def api_key(self, provider: str) -> SecretStr | None:
        """The key, read now. Raises ProviderSettingsError when it is not where it should be."""
        if self.api_key_env:
            key = os.environ.get(self.api_key_env, "")
            where = f"the environment variable {self.api_key_env}"
        elif self.api_key_file:
            where = f"the file {self.api_key_file}"
            try:
                key = self.api_key_file.read_text("utf-8-sig")
            except (OSError, UnicodeDecodeError):
                key = ""
        else:
            return None

        key = key.strip()
        if not key or not key.isascii() or not key.isprintable():
            msg = f"provider {provider}: {where} holds no usable key; set it, or drop the setting"
            raise ProviderSettingsError(msg)
        return SecretStr(key)


def sent_fields(providers: Mapping[str, ProviderSettings], name: str) -> ChatFields:
    """What of a producer's chat body a provider is sent; a format nobody knows is refused later."""
    settings = providers.get(name)
    if settings is None:
        return OPENAI
    return CHAT_FIELDS.get(settings.wire, OPENAI).extended(settings.chat_fields)


def _login_and_url(url: str) -> tuple[str, str]:
    """What stands before the last @ of a URL's host, and the URL without it and a last slash."""
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    login, _, host = host.rpartition("@")
    return login, f"{scheme}://{host}{slash}{path}".rstrip("/")


def variable_of(provider: str) -> str:
    """How the variables begin that set a provider up; a shell knows letters, digits and _ only."""
    return f"TIERLINE_PROVIDERS__{_plain_name(provider).upper()}"


def under_names(
    providers: Mapping[str, ProviderSettings], names: Iterable[str]
) -> Mapping[str, ProviderSettings]:
    """The providers under the names that a policy gives them, the others under their own.

    Variables know no case, and no other signs than _. So a name means the provider that is written
    exactly so, else the one that is written alike.
    """
    alike = {_plain_name(name): name for name in providers}
    found = {
        name: name if name in providers else alike[_plain_name(name)]
        for name in names
        if name in providers or _plain_name(name) in alike
    }
    others = {name: one for name, one in providers.items() if name not in found.values()}
    return {**others, **{name: providers[known] for name, known in found.items()}}


def _plain_name(provider: str) -> str:
    return re.sub(r"[^a-z0-9]", "_", provider.lower())

"""Settings of one provider: its address, its format, and where its key is kept."""

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
#: Path endings that are added to the base URL, by format.
_ENDPOINTS = {
    "openai": (
        "/chat/completions",
        "/completions",
        "/responses",
        "/embeddings",
        "/models",
        "/chat",
    ),
    "anthropic": ("/messages", "/complete", "/models"),
    "gemini": (":generateContent", ":streamGenerateContent", "/models"),
}
#: The base paths of well-known hosts, as documented in 2026-11.
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
_GEMINI, _AZURE = "generativelanguage.googleapis.com", ".openai.azure.com"
#: User and password of a URL (RFC 3986, section 3.2.1): their other characters are %-encoded.
_LOGIN = re.compile(
    r"(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+:"
    r"(?:[A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})*"
)
#: A dotted path of names.
_FIELD = r"^[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,64}){0,4}$"


class ProviderSettingsError(TierlineError):
    """A provider cannot be used as it is set up; the message names it and says what to do."""


class ModelLimits(BaseModel):
    """What the provider allows for one model; None: no limit that we know of."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    #: Calls per minute.
    requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    #: Tokens per minute, input and output together.
    tokens_per_minute: Annotated[int, Field(ge=1)] | None = None
    #: Calls at once, per process.
    concurrency: Annotated[int, Field(ge=1)] | None = None
    #: How long a model is out after five failures in a row; longer with every probe that fails.
    first_break: Span = timedelta(seconds=30)
    #: The share that each tier may use; None: the tiers that use the model share evenly.
    share: dict[Tier, Annotated[float, Field(gt=0, le=1)]] | None = None

    @model_validator(mode="after")
    def _within(self) -> "ModelLimits":
        if self.share is not None and sum(self.share.values()) > 1 + 1e-9:
            msg = f"share: at most 1 in all was expected, not {sum(self.share.values()):g}"
            raise ValueError(msg)
        return self


class ProviderSettings(BaseModel):
    """How to reach one provider."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    #: The URL with the version part of the path, for example `https://api.example.com/v1`.
    base_url: str
    #: The format the provider speaks: a name in `consumers.providers.wires`.
    wire: str = "openai"
    #: The environment variable that holds the key.
    api_key_env: str | None = None
    #: The mounted file that holds the key. Without variable and file no key is sent.
    api_key_file: Path | None = None
    #: The header that carries the key; None: the format's own. In `authorization` as a bearer.
    key_header: str | None = None
    #: Headers sent with every call, for gateways that demand more than a key.
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    #: The path below the base URL, with `{model}` for the model's id; None: the format's own.
    path: Annotated[str, Field(pattern=r"^/[!$-;=@-\[\]_a-~]*$")] | None = None
    #: Query parameters, for example `api-version`. They are shown; secrets belong in headers.
    query: dict[str, str] = Field(default_factory=dict)
    #: True for servers that send our `x-request-id` back: a reply with another one is refused.
    echoes_request_id: bool = False
    #: The header in which the server takes an idempotency key, for example `Idempotency-Key`: a
    #: call that is repeated because nobody knows whether it ran has its first key.
    idempotency_header: Annotated[str, Field(pattern=rf"^{_HEADER.pattern}$")] | None = None
    #: A PEM file of the CA to trust instead of the usual ones, for servers with a CA of your own.
    ca_file: Path | None = None
    #: Fields of a producer's chat body that are sent beside those of the format, by dotted path.
    chat_fields: frozenset[Annotated[str, Field(pattern=_FIELD)]] = frozenset()
    #: Allow plain http and addresses that are not public, but never metadata services.
    allow_private: bool = False
    #: An egress proxy for the calls, as `http://HOST:PORT`, or `http://USER:PASSWORD@HOST:PORT`
    #: where it demands a login. The proxy then resolves the provider's name. `HTTPS_PROXY` of the
    #: environment is never read.
    proxy: SecretStr | None = None
    #: Allow a proxy at an address that is not public, and plain http to it.
    allow_private_proxy: bool = False
    #: How long a connection may take, its TLS handshake included.
    connect_timeout: Span = timedelta(seconds=5)
    #: The account's limits by model id; `*` for all models that are not named.
    limits: dict[str, ModelLimits] = Field(default_factory=dict)
    #: The most bytes of a reply, counted after decompression; a longer one is given up.
    max_reply_bytes: Annotated[int, Field(ge=1024)] = 1 << 20

    @field_validator("base_url")
    @classmethod
    def _whole(cls, value: str) -> str:
        if "?" in value or "#" in value:
            msg = "a URL without query and fragment was expected"
            raise ValueError(msg)
        if re.search("%(?:20|09|0[ad])", value, re.IGNORECASE):
            msg = "a URL without blanks was expected"
            raise ValueError(msg)
        check_url(value, allow_private=True)  # `_allowed` knows whether it may be private
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
                msg = (
                    f"{name[:64]!r}: a header's name and a value of one line of ASCII text were "
                    "expected"
                )
                raise ValueError(msg)
        return value

    @field_validator("chat_fields")
    @classmethod
    def _not_ours(cls, value: frozenset[str]) -> frozenset[str]:
        if ours := sorted(value & OURS):
            msg = f"{', '.join(ours)}: set by Tierline in every call, so it cannot be let through"
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
                msg = f"base_url: the URL without {end} was expected, for that is added to it"
                raise ValueError(msg)
        if self.path is None and (expected := self._expected_path()):
            msg = f"base_url: https://{self.host}{expected}"
            raise ValueError(msg)
        if self.proxy_url is not None:
            try:
                check_url(self.proxy_url, allow_private=self.allow_private_proxy)
            except ValueError as error:
                problem = str(error).replace("allow_private", "allow_private_proxy")
                msg = f"proxy: {problem}"
                raise ValueError(msg) from None
        return self

    def _expected_path(self) -> str | None:
        """What was expected in place of a path at which the server answers nothing."""
        path = urlsplit(self.base_url).path
        if doubled := re.search(r"/(v[0-9][a-z0-9]*)/\1$", path):
            return f"{path[: doubled.end(1)]} was expected, with the version once"
        for wire, ends in _ENDPOINTS.items():
            if wire != self.wire and (end := next(filter(path.endswith, ends), None)):
                return f"{path.removesuffix(end)} with wire: {wire} was expected"
        if self.wire == "gemini" and path.endswith("/openai"):
            return f"{path} with wire: openai was expected, or {path.removesuffix('/openai')}"
        if self.host.endswith(_AZURE) and path in ("", "/openai"):
            return "/openai/v1 was expected, or `path` with the deployment"
        usual = _PATHS.get(self.host)
        if usual and self.wire == "openai" and self.host == _GEMINI:
            usual = "/v1beta/openai"
        is_short = usual is not None and usual.startswith(f"{path}/")
        if usual and (not path or (self.wire == "openai" and (is_short or path == "/v1" != usual))):
            return f"{usual} was expected, with the path"
        return None

    def limits_of(self, model_id: str) -> ModelLimits:
        return self.limits.get(model_id) or self.limits.get("*") or ModelLimits()

    @property
    def proxy_url(self) -> str | None:
        """The proxy, without user and password."""
        return _login_and_url(self.proxy.get_secret_value())[1] if self.proxy else None

    @property
    def proxy_with_login(self) -> SecretStr | None:
        """The proxy, with user and password written so that the client sends their exact bytes."""
        if self.proxy is None:
            return None
        login, url = _login_and_url(self.proxy.get_secret_value())
        if not login:
            return SecretStr(url)
        # The client encodes them as Latin-1.
        parts = (unquote_to_bytes(part).decode("latin-1") for part in login.split(":", 1))
        encoded = ":".join(quote(part, safe="") for part in parts)
        return SecretStr(url.replace("://", f"://{encoded}@", 1))

    @property
    def is_bare(self) -> bool:
        """True for a URL without any path, at which few servers answer."""
        return self.path is None and not urlsplit(self.base_url).path

    @property
    def host(self) -> str:
        """The host that is called, in lower case."""
        return urlsplit(self.base_url).hostname or ""

    @property
    def address(self) -> tuple[str, int]:
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
    """The fields of a chat body that a provider is sent; an unknown format is refused later."""
    settings = providers.get(name)
    if settings is None:
        return OPENAI
    return CHAT_FIELDS.get(settings.wire, OPENAI).extended(settings.chat_fields)


def _login_and_url(url: str) -> tuple[str, str]:
    """`USER:PASSWORD` of a URL, and the URL without it and without a slash at its end."""
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    login, _, host = host.rpartition("@")
    return login, f"{scheme}://{host}{slash}{path}".rstrip("/")


def variable_of(provider: str) -> str:
    """How the variables of a provider begin, in letters, digits and _ alone, as shells demand."""
    return f"TIERLINE_PROVIDERS__{_plain_name(provider).upper()}"


def under_names(
    providers: Mapping[str, ProviderSettings], names: Iterable[str]
) -> Mapping[str, ProviderSettings]:
    """The providers under the names that a policy gives them, the others under their own.

    Names of variables have no case, and no signs but _. So a policy's name means the provider of
    exactly that name, else the one whose name differs only in case and signs.
    """
    own_names = {_plain_name(name): name for name in providers}
    matches = {
        name: name if name in providers else own_names[_plain_name(name)]
        for name in names
        if name in providers or _plain_name(name) in own_names
    }
    others = {name: kept for name, kept in providers.items() if name not in matches.values()}
    return {**others, **{name: providers[own_name] for name, own_name in matches.items()}}


def _plain_name(provider: str) -> str:
    return re.sub(r"[^a-z0-9]", "_", provider.lower())

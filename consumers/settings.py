"""Settings of a process: read once at the start, frozen, and handed on in parts.

Every setting is also an environment variable, `TIERLINE_` and its name in capitals, with `__`
between the parts: `TIERLINE_KAFKA__BOOTSTRAP=kafka:9092`.
"""

import base64
import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from consumers.providers.settings import ProviderSettings
from consumers.sign_in_settings import OidcSettings, TokenSettings
from consumers.variables import PREFIX, unknown_variables
from schemas.base import Identifier, Instant
from schemas.spans import PositiveSpan, Span
from schemas.tenancy import is_reserved_tenant
from schemas.topics import Topics

__all__ = [
    "BoundSettings",
    "ConsoleSettings",
    "HealthSettings",
    "IntakeSettings",
    "KafkaSettings",
    "ReleaseKey",
    "ReleaseSettings",
    "RepeatSettings",
    "Settings",
    "SigningKey",
    "TelemetrySettings",
    "WorkerSettings",
    "read_address",
]


class _Slice(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def read_address(text: str) -> str:
    """`HOST:PORT`, several with commas. Raises ValueError."""
    for address in text.split(","):
        host, _, port = address.strip().rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
            msg = f"{text}: HOST:PORT was expected, for example kafka:9092"
            raise ValueError(msg)
    return text


def _own_name(tenant: str) -> str:
    if is_reserved_tenant(tenant):
        msg = "names that begin with _ are Tierline's own"
        raise ValueError(msg)
    return tenant


Tenant = Annotated[Identifier, AfterValidator(_own_name)]


class BoundSettings(_Slice):
    """The tenant to whom an intake topic or a principal is bound, and the plan."""

    #: The tenant.
    tenant: Tenant
    #: The plan they have. None: the policy's default plan.
    plan: str | None = None


class SigningKey(_Slice):
    """A secret with which requests are signed, and whom it may sign for."""

    #: 32 bytes at least, as text; both sides have it.
    secret: Annotated[SecretStr, Field(min_length=32)]
    #: None: for every tenant, as a gateway's does.
    tenants: frozenset[Tenant] | None = None
    #: The plans it may give. None: every plan.
    plans: frozenset[str] | None = None


class IntakeSettings(_Slice):
    """What a tenant and its plan are bound to, so that no producer can claim another's."""

    #: The header in which a gateway, the only writer of intake, names who it has let in.
    principal_header: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")] | None = None
    principals: dict[str, BoundSettings] = Field(default_factory=dict)
    #: Keys of signatures by their ids. Two of one tenant are good at the same time.
    keys: dict[Identifier, SigningKey] = Field(default_factory=dict)
    #: A signature may expire so long after its record was appended.
    longest_signature: PositiveSpan = timedelta(hours=1)
    #: Requests whose tenant is not proven in one of these ways are refused.
    requires_proof: bool = False


def _read_public(text: str) -> str:
    try:
        is_key = len(base64.b64decode(text, validate=True)) == 32
    except ValueError:
        is_key = False
    if not is_key:
        msg = "an Ed25519 public key was expected: 32 bytes in base64, as `policy keygen` prints it"
        raise ValueError(msg)
    return text


class ReleaseKey(_Slice):
    """A public key, and what its owner may do about releases."""

    #: Ed25519, 32 bytes in base64; `tierline policy keygen` prints it.
    public: Annotated[str, AfterValidator(_read_public)]
    #: `own`: decide, and everything else. `propose`. `guard`: stop a canary, take it to the next
    #: share that was agreed, roll back.
    may: frozenset[Literal["own", "propose", "guard"]]
    #: What it signed before still counts; nothing later does. None: it has not ended.
    until: Instant | None = None


class ReleaseSettings(_Slice):
    """Who may release policies, and how this process signs."""

    #: Public keys by their ids. Empty: nobody signs. Every process needs the same ones.
    keys: dict[Identifier, ReleaseKey] = Field(default_factory=dict)
    #: Acts that Kafka appended before count without a signature; for when keys are first listed.
    signed_since: Instant | None = None
    #: The id of the key that this process signs with. None: it signs nothing.
    sign_as: Identifier | None = None
    #: That key's file, which `tierline policy keygen` writes.
    key_file: Path | None = None

    @model_validator(mode="after")
    def _has_both(self) -> Self:
        if (self.sign_as is None) != (self.key_file is None):
            msg = "sign_as and key_file are given together, or neither of them"
            raise ValueError(msg)
        return self


class KafkaSettings(_Slice):
    """How to reach Kafka, and how patient to be with it."""

    #: `HOST:PORT`, several with commas. None: we start a broker of our own.
    bootstrap: Annotated[str, AfterValidator(read_address)] | None = None
    #: How connections are encrypted and who signs in; the cluster says which.
    security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    #: PLAIN sends the password as it is, so it needs SASL_SSL.
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    #: With SASL.
    username: str | None = None
    #: With SASL.
    password: SecretStr | None = None
    #: Trusted instead of the usual authorities, as a PEM file.
    ca_file: Path | None = None
    #: The client's certificate as a PEM file, where the cluster asks for one.
    cert_file: Path | None = None
    #: Its key as a PEM file.
    key_file: Path | None = None
    #: Before every topic, group and transactional id, for example `staging.`.
    prefix: str = ""
    #: Partitions of topics that we create; the same for all of them.
    partitions: Annotated[int, Field(ge=1, le=1000)] = 8
    #: Copies of each partition of topics that we create.
    replication: Annotated[int, Field(ge=1)] = 1
    #: A member that is silent for so long loses its partitions.
    session_timeout: Span = timedelta(seconds=30)
    #: It is also how long a rebalance without a crash may go unnoticed.
    heartbeat_interval: Span = timedelta(seconds=3)
    #: Unique per process and stable over restarts (an ordinal); None: not a static member.
    instance: str | None = None
    #: Further intake topics by their names behind `llm.intake.`, and whose each is: who may write
    #: to one, Kafka's ACLs say.
    intakes: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,99}$")], BoundSettings] = (
        Field(default_factory=dict)
    )

    @model_validator(mode="after")
    def _no_password_in_clear(self) -> "KafkaSettings":
        if self.security == "SASL_PLAINTEXT" and self.sasl_mechanism == "PLAIN":
            msg = (
                "sasl_mechanism: PLAIN would send the password unencrypted; "
                "set security to SASL_SSL, or take SCRAM-SHA-256 or SCRAM-SHA-512"
            )
            raise ValueError(msg)
        return self

    @property
    def topics(self) -> Topics:
        """The topic names under our prefix."""
        return Topics(self.prefix, tuple(sorted(self.intakes)))


class WorkerSettings(_Slice):
    """How much one worker process does at once."""

    #: Calls in flight. Throughput is width divided by the latency of a call.
    width: Annotated[int, Field(ge=1, le=5000)] = 256
    #: How long calls may finish after SIGTERM. Keep it 20 s below the orchestrator's kill delay.
    drain_for: Span = timedelta(seconds=25)
    #: How long a rebalance waits for running calls before partitions may move, at most: a call that
    #: runs on is made again by the next owner. No process of the group starts calls meanwhile.
    revoke_grace: Span = timedelta(seconds=15)


class RepeatSettings(_Slice):
    """How long a request id is remembered, per intake partition. The shorter bound counts."""

    #: The longest that it is remembered.
    window: Span = timedelta(hours=24)
    #: The most that are remembered: about 200 bytes each; reading them again takes the time to
    #: parse as many requests.
    most: Annotated[int, Field(ge=0)] = 100_000


class HealthSettings(_Slice):
    """Where the health of a process is told, and when it ends itself."""

    #: Where `/live`, `/ready` and `/status` are answered. None: nowhere.
    port: Annotated[int, Field(ge=1, le=65_535)] | None = None
    #: Who may ask: `0.0.0.0` in a container, where the orchestrator asks from outside.
    host: str = "127.0.0.1"
    #: An event loop that stands still for so long ends its process. Keep it below the session
    #: timeout: else other processes are given the same record before it is known.
    loop_patience: PositiveSpan = timedelta(seconds=20)
    #: A stage with work that stands still for so long ends its process. None: 60 s, or one and a
    #: half times the policy's call timeout where that is longer.
    patience: PositiveSpan | None = None


class TelemetrySettings(_Slice):
    """How traces hang together. Where they go, the standard `OTEL_*` variables say."""

    #: Whether a record's context is the parent of its processing and linked from it, or only
    #: linked: then every hop is a trace of its own.
    parent_mode: Literal["parent", "link"] = "parent"
    #: Whether a producer decides which of its requests are traced; else we do, by trace id.
    trust_producer_sampling: bool = False
    #: Members of a producer's baggage that travel on; the others are dropped at intake.
    baggage: frozenset[str] = frozenset()


class ConsoleSettings(_Slice):
    """The review console."""

    oidc: OidcSettings | None = None
    #: One token for everybody, with one role. Neither this nor OIDC: loopback alone, no sign-in.
    token: TokenSettings | None = None
    #: A task of the policy that sums a case up for its reviewer in a few lines. None: no brief.
    brief_task: str | None = None
    #: The address of a trace's page, with `{trace_id}` in it. None: only the id is shown.
    trace_url: Annotated[str, Field(pattern=r"^https?://.*\{trace_id\}")] | None = None
    #: Addresses or networks of the proxies in front, which say by `X-Forwarded-For` who comes.
    #: Without it the header is ignored, and all who come through a proxy count as one address.
    proxies: frozenset[str] = frozenset()
    #: Whether `tierline up` serves the console beside all stages, on 127.0.0.1 alone.
    beside_stages: bool = True
    #: The port that the console listens on. None: 8080, or the next one that is free.
    port: Annotated[int, Field(ge=0, le=65_535)] | None = None


class StoreSettings(_Slice):
    """The database for what is read from the topics: the console's cases, and figures."""

    #: `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST/NAME`. None: the console uses a file of
    #: ours, and commands that show figures read the topics each time.
    url: SecretStr | None = None
    #: How long single requests are kept. Sums by hour and by day stay.
    keep: PositiveSpan = timedelta(days=90)


class Settings(BaseSettings):
    """Everything a process needs to know about where it runs."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="ignore"
    )

    kafka: KafkaSettings = KafkaSettings()
    intake: IntakeSettings = IntakeSettings()
    releases: ReleaseSettings = ReleaseSettings()
    worker: WorkerSettings = WorkerSettings()
    health: HealthSettings = HealthSettings()
    repeats: RepeatSettings = RepeatSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    console: ConsoleSettings = ConsoleSettings()
    store: StoreSettings = StoreSettings()
    #: The routing policy; None: `deploy/policy/routing.yaml` here or as shipped.
    policy: Path | None = None
    #: The prompt contracts; None: `deploy/prompts` here or as shipped.
    prompts: Path | None = None
    #: Where a worker keeps ledger lines that Kafka does not take, and every process notes which
    #: record it handles, on a disk that outlasts the process. None: `tierline` in `XDG_STATE_HOME`,
    #: else in `~/.local/state`.
    state_dir: Path | None = None
    #: Providers by the name that the policy's models use.
    providers: dict[str, ProviderSettings] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, given: Any) -> Any:
        """Refuse variables that set nothing: they are misspelt. Raises ValueError."""
        if problems := [
            f"{name}: there is no such setting" + (f"; {nearest} is the nearest" if nearest else "")
            for name, nearest in unknown_variables(os.environ, cls)
        ]:
            raise ValueError("\n".join(problems))
        return given

    @model_validator(mode="after")
    def _check_intake(self) -> "Settings":
        """Raises ValueError."""
        if self.intake.keys and self.intake.longest_signature > self.repeats.window:
            msg = (
                "TIERLINE_INTAKE__LONGEST_SIGNATURE: no longer than TIERLINE_REPEATS__WINDOW was "
                "expected: a signed record that is sent again is known by its id for so long"
            )
            raise ValueError(msg)
        return self

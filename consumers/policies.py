"""The releases that a process follows: which one is active, and which one a request has.

They come from `llm.policy`, which is followed as records arrive; where that holds no release of the
policy, the files count. A request keeps the release under which it was first routed: whoever lacks
that one waits for it, and applies no other to the request.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from consumers import clock
from consumers.kept_releases import KeptReleases
from consumers.policy_log import PolicyLog
from consumers.records import Record, Source, partition_of, record_ref, why_not_taken
from consumers.rules import load_rules
from consumers.runtime.clients import KAFKA_IS_AWAY, Clients
from consumers.runtime.connection import CREATE_TOPICS, KafkaUnreachableError, cluster_of
from consumers.runtime.limits import at_most, ended_tasks
from consumers.runtime.topic_reader import topic_reader
from consumers.settings import Settings
from consumers.signing import keys_of
from router.policy.table import Policy
from router.releases.bundle import Bundle
from router.releases.rollout import overdue, reach_of, refusal_of_release
from router.releases.standing import KnownRelease, arm_key, release_for
from schemas.dead_letter import DeadLetter
from schemas.errors import TierlineError
from schemas.escalation import RouteTaken
from schemas.policy_log import Release
from schemas.request import Request

__all__ = ["Policies", "ReleaseError", "active_policy", "followed"]

_log = structlog.get_logger(__name__)

_FILES, _COPY = "the files", "the copy kept on this machine"
#: Seconds for the first look at the topic, between two tries, and for the end.
_FIRST_LOOK, _AGAIN_SECONDS, _END_SECONDS = 15.0, 5.0, 4.0
#: Between two tries of the first look: files count only where the topic cannot be read.
_SOON = 0.5
#: A release that nobody has brought for so long is expected no more: after a deploy of other files,
#: the last process that had it has ended. The second one is since it was first missed here.
_GONE_AFTER, _MISSED_FOR = timedelta(seconds=30), timedelta(seconds=5)
#: Releases that are ready for use. Others are read again when a request asks for one.
_MOST_HELD = 4
_MOST_MISSED = 1_000
#: Is told what new requests are given.
_Serve = Callable[[Sequence[Policy]], None]


class ReleaseError(TierlineError):
    """A release cannot be applied by this process."""


class Policies:
    """The releases of one policy, as this process has them."""

    def __init__(
        self, files: Bundle, log: PolicyLog | None = None, kept: KeptReleases | None = None
    ) -> None:
        #: What new requests are given, unless they are the candidate's.
        self.active = files
        #: Where that comes from, in words.
        self.source = _FILES
        #: The last act that is applied, and since when.
        self.act = 0
        self.since: datetime | None = None
        #: Set once it is known what is active, and whenever an act has been applied.
        self.is_known, self.changed = asyncio.Event(), asyncio.Event()
        self._files = files
        self._log = log or PolicyLog(files.policy.name)
        self._kept = kept
        self._candidate: Bundle | None = None
        #: By digest.
        self._held = {files.digest: files}
        self._checks: list[Callable[[Bundle], None]] = []
        self._serving: list[_Serve] = []
        #: Why releases cannot be applied here, by digest, and those of them that could be read.
        self._refused: dict[str, str] = {}
        self._unfit: dict[str, Bundle] = {}
        #: What requests have asked for and was not here, since when; and what was looked for.
        self._missed: dict[str, datetime] = {}
        self._sought: set[str] = set()
        #: Why the topic is not followed now; empty while it is.
        self._without = ""
        #: True while all that the topic holds is known, or there is none.
        self._knows_all = False
        self._positions: dict[Source, int] = {}

    @property
    def held(self) -> Sequence[Bundle]:
        """The releases that are ready for use."""
        return tuple(self._held.values())

    @property
    def longest_call(self) -> timedelta:
        """The longest that a call may take under any of them."""
        return max(bundle.policy.limits.call_timeout for bundle in self.held)

    def for_request(self, request: Request) -> Bundle:
        """The release of a request that has none yet."""
        candidate = self._candidate
        if candidate is None:
            return self.active
        plan = self.active.policy.plan_name(request.plan)
        digest = release_for(self._log.standing, arm_key(request, request.id), request.task, plan)
        return candidate if digest == candidate.digest else self.active

    def of(self, route: RouteTaken, now: datetime) -> Bundle | None:
        """The release of a route; None while this process does not have it.

        Earlier software wrote the digest of the policy alone, or no more than the version.
        """
        digest = _named_in(route)
        if (bundle := self._held.get(digest)) is not None:
            return bundle
        for bundle in self._held.values():
            if digest in (bundle.policy.digest, bundle.policy.version):
                return bundle
        if len(self._missed) >= _MOST_MISSED:
            self._missed.clear()
        self._missed.setdefault(digest, now)
        return None

    def is_gone(self, route: RouteTaken, now: datetime) -> bool:
        """True once nobody is expected to bring the release of a route.

        It is not on the topic, so it was that of files which no process has any more. While the
        topic is not read, nobody can tell. A route from the future was made by nobody.
        """
        digest, age = _named_in(route), now - route.routed_at
        return (
            self._knows_all
            and now - self._missed.get(digest, now) >= _MISSED_FOR
            and not -_GONE_AFTER < age < _GONE_AFTER
            and digest not in self._log.standing.releases
        )

    async def of_letter(self, letter: DeadLetter) -> Bundle:
        """The release under which a request was given up; the active one where nobody has it.

        A person decides by it, so it need not pass the checks of what is to be called here.
        """
        digest = letter.policy_digest or ""
        bundle = self._held.get(digest) or await self._load(digest)
        return bundle or self._unfit.get(digest) or self.active

    def require(self, check: Callable[[Bundle], None], serve: _Serve = lambda _: None) -> None:
        """Apply only releases that pass a check, which raises TierlineError for the others.

        It is raised here where the active one does not pass. `serve` is told what new requests are
        given, now and whenever that may have changed.
        """
        check(self.active)
        self._checks.append(check)
        self._serving.append(serve)
        for digest, bundle in list(self._held.items()):
            if bundle is not self.active and not self._passes(bundle):
                del self._held[digest]
        if self._candidate is not None:
            self._candidate = self._held.get(self._candidate.digest)
        self._tell()

    def problems(self) -> Sequence[str]:
        """The releases that should be applied and cannot be, in words."""
        missing = [digest for digest in self._wanted() if digest not in self._held]
        return [self._refused.get(digest, f"release {digest} is nowhere") for digest in missing]

    def notes(self) -> Sequence[str]:
        """That the topic is not followed now, in words."""
        words = f"{self._without}; release {self.active.label} of {self.source} is applied"
        return [words] if self._without else []

    def words(self) -> str:
        """Which release is applied, for the line that a process starts with."""
        words = f"release {self.active.label} from {self.source}"
        if self._without:
            return f"{words}: {self._without}"
        return f"{words}, as none was published" if self.source is _FILES else words

    def overdue(self) -> Sequence[str]:
        """The reviews and decisions that should have been made by now, in words."""
        return overdue(self._log.standing, self.active.policy.review_every, clock.now())

    def facts(self) -> Mapping[str, object]:
        """Which release is applied, and which one is tried, for `/status`."""
        candidate, running = self._candidate, self._log.standing.candidate
        return {
            "policy": self.active.policy.name,
            "version": self.active.policy.version,
            "digest": self.active.digest,
            "from": self.source,
            "act": self.act,
            "candidate": candidate and candidate.digest,
            "share": running.share if running and candidate else 0.0,
        }

    async def follow(self, clients: Clients) -> None:
        """Follow the topic, until cancelled."""
        topic = clients.settings.topics.policy
        while True:
            try:
                async with topic_reader(clients, [topic], positions=self._positions) as reader:
                    if await reader.ends():
                        await self._take([record async for record in reader.until_end()])
                        async for records in reader.follow_batches():
                            await self._take(records)
                    why = f"{topic} is missing or may not be read; {CREATE_TOPICS}"
                    self._knows_all = True
            except Exception as error:  # noqa: BLE001  whatever it is, they are followed again
                why = f"{topic} cannot be read now ({type(error).__name__})"
                self._knows_all = False
                if not self.is_known.is_set() and not isinstance(error, KafkaUnreachableError):
                    await asyncio.sleep(_SOON)
                    continue
            await self.go_without(why)
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _take(self, records: Sequence[Record]) -> None:
        """Take in what has come, and apply what follows from it."""
        for record in records:
            if (why := why_not_taken(self._log.take, record)) is not None:
                _log.warning("no act or release", place=record_ref(record), why=why)
            self._positions[partition_of(record)] = record.offset + 1
        if records or self._without or not self.is_known.is_set():
            self._without = ""
            self._sought.clear()
            await self._settle()
            self._knows_all = True
        await self._seek()

    async def go_without(self, why: str) -> None:
        """Go on with what is active; at the start, with what was active here last."""
        if why != self._without:
            _log.warning("releases are not followed", why=why)
        self._without = why
        if not self.is_known.is_set() and self._kept is not None:
            digest = await asyncio.to_thread(self._kept.last_active)
            bundle = await self._load(digest) if digest else None
            if bundle is not None and self._without == why:  # else the topic is read by now
                self._apply(bundle, _COPY)
                self._tell()
        self.is_known.set()
        await self._seek()

    async def _settle(self) -> None:
        """Apply what stands after all acts so far, as far as this process can."""
        standing = self._log.standing
        candidate = standing.candidate
        self._candidate = candidate and await self._load(candidate.release.digest)
        if standing.active is None:
            self._apply(self._files, _FILES)
        elif (active := await self._load(standing.active.digest)) is not None:
            self._apply(active, "llm.policy")
        self._tell()
        self.is_known.set()  # before what is kept is written: nothing older is applied meanwhile
        if standing.last != self.act and not self.problems():
            self.act, self.since = standing.last, clock.now()
            self.changed.set()
        if self._kept is not None and not self.problems():
            bundles = [*filter(None, (self._candidate, self.active))]
            published = "" if self.source is _FILES else self.active.digest
            await asyncio.to_thread(self._kept.keep, bundles, published)

    async def _seek(self) -> None:
        """Look once for each release that a request has asked for."""
        for digest in [*self._missed]:
            if digest not in self._sought:
                self._sought.add(digest)
                await self._load(digest)

    async def _load(self, digest: str) -> Bundle | None:
        """A release by its digest, made ready for use; None where it is not known, or unusable."""
        if digest in self._held or digest in self._refused:
            return self._held.get(digest)
        if digest == self._files.digest:
            self._held[digest] = self._files
            return self._files
        release, known = self._log.release(digest), self._log.standing.releases.get(digest)
        if release is None and self._kept is not None:
            release = await asyncio.to_thread(self._kept.release, digest)
        if release is None:
            return None
        try:
            bundle = await asyncio.to_thread(_built, release, known)
        except Exception as error:  # noqa: BLE001  whatever somebody has published
            self._refuse(release.version, digest, error)
            return None
        if not self._passes(bundle):
            return None
        self._held[digest] = bundle
        self._missed.pop(digest, None)
        self._sought.discard(digest)
        wanted = self._wanted()
        for other in [*self._held][:-_MOST_HELD]:
            if other not in wanted:
                del self._held[other]
        return bundle

    def _passes(self, bundle: Bundle) -> bool:
        try:
            for check in self._checks:
                check(bundle)
        except TierlineError as error:
            self._refuse(bundle.policy.version, bundle.digest, error)
            self._unfit[bundle.digest] = bundle
            others = [digest for digest in self._unfit if digest not in self._wanted()]
            for digest in others[:-_MOST_HELD]:  # it is read again when a letter asks for it
                del self._unfit[digest], self._refused[digest]
            return False
        return True

    def _refuse(self, version: str, digest: str, error: Exception) -> None:
        why = str(error) if isinstance(error, TierlineError) else type(error).__name__
        _log.error("release cannot be applied", version=version, digest=digest, why=why)
        self._refused[digest] = f"release {version} ({digest}) cannot be applied here: {why}"

    def _tell(self) -> None:
        given = [bundle.policy for bundle in (self.active, self._candidate) if bundle is not None]
        for serve in self._serving:
            serve(given)

    def _apply(self, bundle: Bundle, source: str) -> None:
        if bundle is not self.active or source != self.source:
            version, act = bundle.policy.version, self._log.standing.last
            fields = {"version": version, "digest": bundle.digest, "source": source, "act": act}
            _log.info("release applied", **fields)
        self._held[bundle.digest] = self.active = bundle
        self.source = source

    def _wanted(self) -> Sequence[str]:
        """The digests of what is active, what should be, and what is tried."""
        standing = self._log.standing
        candidate = standing.candidate.release if standing.candidate else None
        others = [known.digest for known in (standing.active, candidate) if known is not None]
        return [*dict.fromkeys((*others, self.active.digest))]


def _named_in(route: RouteTaken) -> str:
    return route.policy_digest or route.policy_version


def _built(release: Release, known: KnownRelease | None) -> Bundle:
    """The bundle of a release. Raises PolicyError, PromptError and ReleaseError."""
    bundle = Bundle.of_texts(release.policy, release.prompts, f"release {release.version}")
    if bundle.digest != release.digest:
        msg = f"its content has another digest ({bundle.digest})"
        raise ReleaseError(msg)
    if known is not None and (why := refusal_of_release(known, release, reach_of(bundle.policy))):
        raise ReleaseError(why)
    return bundle


async def active_policy(settings: Settings) -> Policy:
    """The policy that is applied to new requests now. Raises PolicyError, PromptError, OSError."""
    async with followed(settings, load_rules(settings)) as policies:
        return policies.active.policy


@contextlib.asynccontextmanager
async def followed(
    settings: Settings, files: Bundle, folder: Path | None = None
) -> AsyncIterator[Policies]:
    """The releases, followed until the context closes. It opens when what is active is known.

    `folder`: where releases are kept on disk.
    """
    clients, name = Clients(settings.kafka).named("policies"), files.policy.name
    kept = None
    if folder is not None:
        with contextlib.suppress(KafkaUnreachableError, *KAFKA_IS_AWAY):
            place = f"{await cluster_of(clients)}.{settings.kafka.prefix}{name}"
            kept = KeptReleases(folder / "releases", place)
    policies = Policies(files, PolicyLog(name, keys_of(settings)), kept)
    following = asyncio.ensure_future(policies.follow(clients))
    try:
        try:
            await at_most(_FIRST_LOOK, policies.is_known.wait())
        except TimeoutError:
            await policies.go_without(f"{settings.kafka.topics.policy} is not read yet")
        yield policies
    finally:
        # The Kafka client may not end while Kafka is away.
        with contextlib.suppress(TimeoutError):
            await at_most(_END_SECONDS, ended_tasks(following))

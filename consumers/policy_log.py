"""The policy log as processes read it, and the one writer of acts.

A writer fences every other one, reads to the end, decides, and writes its act in one transaction:
so an act follows the acts that its writer has seen, and no other.
"""

import asyncio
import base64
import binascii
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from consumers import clock
from consumers.records import Record, told_at, why_not_taken
from consumers.runtime.clients import TRANSACTION_LIMIT, Clients
from consumers.runtime.connection import CREATE_TOPICS, connected, started
from consumers.runtime.topic_reader import TopicReader, topic_reader
from consumers.settings import Settings
from consumers.signing import keys_of, signer_of
from router.releases.rollout import folded, rollout_of
from router.releases.standing import NO_KEYS, Keys, SignedAct, Standing
from schemas.codec import dump, read_model
from schemas.errors import ContractError, TierlineError
from schemas.policy_log import POLICY_PARTITION, SIGNATURE_HEADER, PolicyAct, Release
from schemas.reasons import Reason
from schemas.topics import LARGEST_RECORD

__all__ = ["ActRefusedError", "Draft", "LoggedAct", "PolicyLog", "policies_in", "read_log"]
__all__ += ["write_act"]


#: Seconds in which an act can be read that is written.
_READABLE_WITHIN = 10.0
#: How Kafka marks a record that has its producer's time instead of the broker's.
_CREATE_TIME = 0


class ActRefusedError(TierlineError):
    """An act about a release is not allowed."""


class LoggedAct(NamedTuple):
    """An act as the log has it."""

    act: PolicyAct
    #: When the broker appended it.
    at: datetime
    #: Why it changed nothing. None: it was not refused.
    refusal: str | None


class Draft(NamedTuple):
    """An act before it has its number and signature, and the release that it brings along."""

    fields: Mapping[str, Any]
    release: Release | None = None


class PolicyLog:
    """Folds the records of one policy's releases and acts."""

    def __init__(self, name: str, keys: Keys = NO_KEYS) -> None:
        self.name = name
        self.keys = keys
        self.standing = Standing()
        self.acts: list[LoggedAct] = []
        #: By seal, so that no other content can take a release's place.
        self._releases: dict[str, Release] = {}

    def release(self, digest: str) -> Release | None:
        """A release with the content that was proposed; None while the log has none."""
        known = self.standing.releases.get(digest)
        return None if known is None else self._releases.get(known.seal)

    def has(self, release: Release) -> bool:
        """True where the log has this content."""
        return release.seal in self._releases

    def take(self, record: Record) -> None:
        """Take in a record of the topic. Raises ContractError."""
        key, value = record.key or b"", record.value
        if record.partition != POLICY_PARTITION or value is None:
            return
        if key.startswith(f"{self.name}@".encode()):
            release = read_model(Release, value)
            if release.key == key:
                self._releases[release.seal] = release
        elif key.startswith(f"{self.name}#".encode()):
            act = read_model(PolicyAct, value)
            if self.keys.may and getattr(record, "timestamp_type", None) == _CREATE_TIME:
                detail = "act: the broker's time was expected; the topic lets writers choose theirs"
                raise ContractError(Reason.INVALID_FIELD, detail)
            if act.key == key:
                self._append(SignedAct(act, value, _signature_in(record)), told_at(record))

    def _append(self, signed: SignedAct, at: datetime) -> None:
        self.standing, refusal = folded(self.standing, signed, at, self.keys)
        self.acts.append(LoggedAct(signed.act, at, refusal))


async def read_log(settings: Settings, name: str) -> PolicyLog:
    """The log of a policy as of now. Raises KafkaUnreachableError and ActRefusedError."""
    log = PolicyLog(name, keys_of(settings))
    await _read(settings, log.take)
    return log


async def policies_in(settings: Settings) -> list[str]:
    """The policies that the log has acts of. Raises KafkaUnreachableError and ActRefusedError."""
    names = set[str]()

    def note(record: Record) -> None:
        if b"#" in (record.key or b""):
            names.add(read_model(PolicyAct, record.value).policy)

    await _read(settings, note)
    return sorted(names)


async def _read(settings: Settings, take: Callable[[Record], None]) -> None:
    async with topic_reader(Clients(settings.kafka), [settings.kafka.topics.policy]) as reader:
        await _read_on(reader, take)


async def write_act(
    settings: Settings, name: str, draft: Callable[[PolicyLog], Draft]
) -> tuple[LoggedAct, PolicyLog]:
    """Write an act, and return it with the log that it ends. `draft` is asked once all is read.

    Raises ActRefusedError, KafkaUnreachableError, and what `draft` raises.
    """
    clients, topic = Clients(settings.kafka), settings.kafka.topics.policy
    log, signer = PolicyLog(name, keys_of(settings)), signer_of(settings)
    producer = clients.transactional(f"tierline.{settings.kafka.prefix}policy.{name}")
    async with started(clients, producer), topic_reader(clients, [topic]) as reader:
        await _read_on(reader, log.take)
        fields, release = draft(log)
        now = clock.now()
        act = PolicyAct(
            policy=name,
            number=log.standing.last + 1,
            at=now,
            key_id=signer.key_id if signer else None,
            **fields,
        )
        before = len(log.acts)
        raw = dump(act.model_dump(mode="json", exclude_none=True))
        signed = SignedAct(act, raw, signer.sign(raw) if signer else b"")
        standing, refusal = folded(log.standing, signed, now, log.keys)
        if refusal is not None:
            msg = f"not done: {refusal}"
            raise ActRefusedError(msg)
        header = [(SIGNATURE_HEADER, base64.b64encode(signed.signature))] if signer else []
        rollout = rollout_of(name, standing, now)
        records = [(act.key, raw, header), (name.encode(), _value_of(rollout), [])]
        if release is not None and not log.has(release):
            records.insert(0, (release.key, _value_of(release), []))
        if (size := max(len(value) for _, value, _ in records)) > LARGEST_RECORD - 4096:
            msg = f"not done: policy and prompts have {size:,} bytes, and a record holds 4 MiB"
            raise ActRefusedError(msg)
        limit = asyncio.timeout(TRANSACTION_LIMIT.total_seconds())
        async with connected(clients), limit, producer.transaction():
            for key, value, headers in records:
                where = {"key": key, "headers": headers, "partition": POLICY_PARTITION}
                await producer.send_and_wait(topic, value, **where)
        # The end of a transaction is acknowledged a little before it can be read.
        until = asyncio.get_running_loop().time() + _READABLE_WITHIN
        await _read_on(reader, log.take)
        while not any(each.act.key == act.key for each in log.acts[before:]):
            if asyncio.get_running_loop().time() > until:
                msg = "written, and not readable yet: look at `tierline policy log` before a repeat"
                raise ActRefusedError(msg)
            await asyncio.sleep(0.05)
            await _read_on(reader, log.take)
    written = next((each for each in log.acts[::-1] if each.act.key == act.key), None)
    if written is None or written.refusal is not None:
        why = written.refusal if written else "it is not in the log"
        msg = f"written, but without effect: {why}"
        raise ActRefusedError(msg)
    return written, log


async def _read_on(reader: TopicReader, take: Callable[[Record], None]) -> None:
    if not await reader.ends():
        msg = "there is no topic for releases"
        raise ActRefusedError(msg, advice=CREATE_TOPICS)
    async for record in reader.until_end():
        # What cannot be read is no act, and anybody may have written it.
        _ = why_not_taken(take, record)


def _signature_in(record: Record) -> bytes:
    try:
        return base64.b64decode(dict(record.headers).get(SIGNATURE_HEADER, b""), validate=True)
    except binascii.Error:
        return b""


def _value_of(model: Any) -> bytes:
    return dump(model.model_dump(mode="json", exclude_none=True))

"""Releases and acts about them, for tests: as records, and as a person's acts on a broker."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from consumers.policy_log import Draft, LoggedAct, write_act
from consumers.runtime.clients import Clients
from consumers.runtime.topic_reader import topic_reader
from consumers.settings import Settings
from router.releases.bundle import Bundle
from router.releases.rollout import reach_of
from schemas.base import EARLIEST
from schemas.codec import dump, read_model
from schemas.policy_log import Act, PolicyAct, Release
from schemas.status import Status
from tests.builders import NOON

__all__ = ["acted", "all_apply", "edited", "records_of", "release_of", "statuses"]


def edited(bundle: Bundle, version: str, *changes: tuple[str, str]) -> Bundle:
    """Another version of a bundle, whose policy says something else."""
    text = bundle.text.replace(f'version: "{bundle.policy.version}"', f'version: "{version}"')
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    return Bundle.of_texts(text, bundle.files)


def release_of(bundle: Bundle) -> Release:
    """A bundle as a record holds it."""
    return bundle.release


def _about(bundle: Bundle) -> dict[str, Any]:
    release = release_of(bundle)
    reach = sorted(reach_of(bundle.policy))
    named = {"version": release.version, "digest": release.digest, "seal": release.seal}
    return {**named, "reach": reach}


def records_of(number: int, what: Act, bundle: Bundle, **fields: Any) -> Sequence[Any]:
    """An act and its release, as two records of the topic."""
    release = release_of(bundle)
    made = {"policy": release.name, "number": number, "who": "ann", "at": NOON, "what": what}
    act = PolicyAct.model_validate({**made, **_about(bundle), **fields})
    return [
        SimpleNamespace(
            topic="llm.policy",
            partition=0,
            offset=2 * number + later,
            timestamp=int((NOON - EARLIEST).total_seconds() * 1000),
            key=key,
            value=dump(record.model_dump(mode="json", exclude_none=True)),
            headers=(),
        )
        for later, (key, record) in enumerate(((release.key, release), (act.key, act)))
    ]


async def acted(settings: Settings, what: Act, bundle: Bundle, **fields: Any) -> LoggedAct:
    """A person's act on the broker."""
    about = {**_about(bundle), "what": what, "who": "ann", "why": "a test", **fields}
    draft = Draft(about, release_of(bundle))
    written, _ = await write_act(settings, bundle.policy.name, lambda _: draft)
    return written


async def statuses(
    settings: Settings, is_wanted: Callable[[Mapping[str, Status]], bool]
) -> Mapping[str, Status]:
    """The last status of each process that runs, once they are as wanted."""
    heard: dict[str, Status] = {}
    topics = [settings.kafka.topics.status]
    async with asyncio.timeout(60), topic_reader(Clients(settings.kafka), topics) as reader:
        async for record in reader.follow():
            name = (record.key or b"").decode()
            if record.value is None:
                heard.pop(name, None)
            else:
                heard[name] = read_model(Status, record.value)
            if is_wanted(heard):
                break
    return heard


def all_apply(
    bundle: Bundle, written: LoggedAct, processes: int
) -> Callable[[Mapping[str, Status]], bool]:
    """Whether so many processes apply an act, and with it a release."""

    def apply(heard: Mapping[str, Status]) -> bool:
        late = [each for each in heard.values() if (each.policy_act or 0) < written.act.number]
        digests = [each.policy_digest for each in heard.values()]
        return not late and digests == [bundle.digest] * processes

    return apply

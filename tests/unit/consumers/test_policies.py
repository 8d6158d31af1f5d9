"""The releases that a process follows: what it applies, what it refuses, what outlasts it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import NotLeaderForPartitionError

from consumers.kept_releases import KeptReleases
from consumers.policies import Policies, ReleaseError
from consumers.policy_log import PolicyLog
from consumers.providers.settings import ProviderSettings
from consumers.rules import load_rules
from consumers.runtime.clients import Clients
from consumers.settings import Settings
from consumers.wiring import _gate
from router.releases.bundle import Bundle
from schemas.base import Tier
from schemas.policy_log import Release
from tests.builders import NOON, a_request, a_route
from tests.releases import edited, records_of, release_of
from tests.unit.router.test_requeue import a_letter

pytestmark = pytest.mark.anyio

FILES = load_rules(Settings())
ONE, TWO, THREE = (edited(FILES, f"t{number}") for number in (1, 2, 3))


def publish(number: int, bundle: Bundle) -> Sequence[Any]:
    return records_of(number, "publish", bundle)


async def after(*acts: Sequence[Any], kept: KeptReleases | None = None) -> Policies:
    """What a process has after these acts."""
    policies = Policies(FILES, PolicyLog(FILES.policy.name), kept)
    for act in acts or [()]:
        await policies._take(act)
    return policies


def under(bundle: Bundle, **fields: Any) -> Any:
    return a_route(policy_version=bundle.policy.version, policy_digest=bundle.digest, **fields)


async def test_the_files_count_until_something_is_published_and_what_is_active_then() -> None:
    policies = await after()
    assert (policies.active, policies.act) == (FILES, 0)
    assert "from the files" in policies.words()

    await policies._take(publish(1, ONE))
    await policies._take(publish(2, TWO))
    assert (policies.active.digest, policies.act) == (TWO.digest, 2)
    assert policies.words() == f"release {TWO.label} from llm.policy"
    assert policies.changed.is_set()

    await policies._take(records_of(3, "rollback", ONE))
    assert (policies.active.digest, policies.facts()["act"]) == (ONE.digest, 3)


async def test_a_request_keeps_its_release_whatever_is_active() -> None:
    policies = await after(publish(1, ONE), publish(2, TWO))

    for bundle in (FILES, ONE, TWO):
        found = policies.of(under(bundle), NOON)
        assert found is not None
        assert found.digest == bundle.digest
    by_policy = a_route(policy_digest=ONE.policy.digest)
    assert policies.of(by_policy, NOON) is policies.of(under(ONE), NOON), "of earlier software"


async def test_arms_are_drawn_by_conversation_and_only_while_a_candidate_is_tried() -> None:
    start = records_of(2, "start", TWO, share=0.25, steps=[1.0], salt="s", tasks=["triage"])
    policies = await after(publish(1, ONE), start)
    asked = [a_request(id=f"r-{no}", task="triage", conversation_id=f"c-{no}") for no in range(400)]
    given = [policies.for_request(each).digest for each in asked]

    assert 60 <= given.count(TWO.digest) <= 140
    again = [each.model_copy(update={"id": "other"}) for each in asked]
    assert [policies.for_request(each).digest for each in again] == given
    others = {policies.for_request(a_request(id=f"r-{no}")).digest for no in range(50)}
    assert others == {ONE.digest}

    await policies._take(records_of(3, "stop", TWO))
    assert {policies.for_request(each).digest for each in asked} == {ONE.digest}


async def test_a_release_that_is_not_here_is_waited_for_and_given_up_only_when_nobody_has_it() -> (
    None
):
    policies, taken = await after(publish(1, ONE)), under(TWO, routed_at=NOON)
    late = NOON + timedelta(seconds=31)
    assert policies.of(taken, late) is None
    assert not policies.is_gone(taken, late), "it may be on its way"
    assert policies.is_gone(taken, late + timedelta(seconds=6))
    assert not policies.is_gone(under(TWO, routed_at=late), late + timedelta(seconds=6))

    await policies._take(publish(2, TWO))
    found = policies.of(taken, late)
    assert found is not None
    assert found.digest == TWO.digest
    assert not policies.is_gone(taken, late + timedelta(hours=1))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"digest": "0123456789ab"}, "another digest", id="another digest"),
        pytest.param({"policy": "name: broken"}, "is required", id="no policy"),
        pytest.param({"prompts": {"nowhere.txt": "?"}}, "expected <task>", id="no prompts"),
    ],
)
async def test_what_cannot_be_applied_is_said_and_changes_nothing(
    change: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = Release.model_validate({**release_of(TWO).model_dump(), **change})
    monkeypatch.setattr("tests.releases.release_of", lambda _: bad)
    records = publish(2, TWO)
    monkeypatch.undo()
    policies = await after(publish(1, ONE), records, publish(3, THREE))
    assert policies.active.digest == THREE.digest
    policies = await after(publish(1, ONE), records)

    assert (policies.active.digest, policies.act) == (ONE.digest, 1)
    [problem] = policies.problems()
    assert problem.startswith(f"release t2 ({bad.digest}) cannot be applied here")
    assert words in problem


async def test_a_release_that_this_process_cannot_carry_out_is_not_applied() -> None:
    policies = await after(publish(1, ONE))

    def check(bundle: Bundle) -> None:
        if bundle.policy.version == "t2":
            msg = "no provider is set up"
            raise ReleaseError(msg)

    policies.require(check)
    await policies._take(publish(2, TWO))
    assert policies.active.digest == ONE.digest
    assert policies.problems() == [
        f"release {TWO.label} cannot be applied here: no provider is set up"
    ]
    assert policies.of(under(TWO), NOON) is None
    assert not policies.is_gone(under(TWO), NOON + timedelta(days=1)), "its requests wait"

    await policies._take(records_of(3, "rollback", ONE))
    assert policies.problems() == []


async def test_a_letter_is_decided_on_by_its_release_though_that_cannot_be_applied_here() -> None:
    def check(bundle: Bundle) -> None:
        if bundle is not FILES:
            msg = "no provider is set up"
            raise ReleaseError(msg)

    bundles = [edited(FILES, f"v{number}") for number in range(7)]
    policies = await after()
    policies.require(check)
    for number, bundle in enumerate(bundles, 1):
        await policies._take(publish(number, bundle))

    for bundle in [*bundles, *bundles]:
        letter = a_letter(policy_digest=bundle.digest)
        assert (await policies.of_letter(letter)).digest == bundle.digest
    assert (policies.active, policies.held) == (FILES, (FILES,))
    assert len(policies._unfit) <= 5
    assert [bundles[-1].label in problem for problem in policies.problems()] == [True]


async def test_limits_are_shared_and_the_fetch_held_up_by_what_new_requests_are_given() -> None:
    """Not by a release that is over, whose requests may still be on their way."""
    policies = await after()
    fewer = edited(FILES, "t4", ("[sim-small, sim-small-b]", "[sim-small]"))
    provider = ProviderSettings(base_url="https://api.example.com/v1")
    gate, served = _gate(policies, {"simulated": provider}, []), list[list[str]]()
    policies.require(lambda _: None, lambda given: served.append([each.version for each in given]))
    usual = gate.most_calls(Tier.LOW)

    await policies._take(publish(1, ONE))
    start = records_of(2, "start", TWO, share=0.25, steps=[1.0], salt="s")
    await policies._take(start)
    await policies._take(records_of(3, "stop", TWO))
    assert gate.most_calls(Tier.LOW) == usual
    await policies._take(publish(4, fewer))

    assert served == [[FILES.policy.version], ["t1"], ["t1", "t2"], ["t1"], ["t4"]]
    assert len(policies.held) > 1
    assert gate.most_calls(Tier.LOW) == usual / 2


async def test_a_candidate_that_was_there_before_its_check_is_dealt_to_nobody() -> None:
    start = records_of(2, "start", TWO, share=0.5, steps=[1.0], salt="s")
    policies = await after(publish(1, ONE), start)

    def check(bundle: Bundle) -> None:
        if bundle.digest == TWO.digest:
            msg = "no provider is set up"
            raise ReleaseError(msg)

    policies.require(check)
    asked = [a_request(id=f"r-{no}") for no in range(50)]
    assert {policies.for_request(each).digest for each in asked} == {ONE.digest}
    assert len(policies.problems()) == 1


async def test_an_active_release_without_its_content_is_a_problem_and_no_silent_use_of_files() -> (
    None
):
    act = publish(1, ONE)[-1]
    policies = await after([act])
    assert (policies.active, policies.act) == (FILES, 0)
    assert policies.problems() == [f"release {ONE.digest} is nowhere"]


async def test_a_release_from_the_future_is_waited_for_by_nobody() -> None:
    """Whoever may write to the topics between stages can claim any time."""
    policies, forged = await after(publish(1, ONE)), under(TWO, routed_at=NOON + timedelta(days=9))
    assert policies.of(forged, NOON) is None
    assert policies.is_gone(forged, NOON + timedelta(seconds=6))


async def test_while_the_topic_cannot_be_read_no_release_is_known_to_be_gone() -> None:
    """It may have been published: another process would apply it, and this one must not guess."""
    policies, taken = Policies(FILES, PolicyLog(FILES.policy.name)), under(TWO, routed_at=NOON)
    assert policies.of(taken, NOON) is None
    late = NOON + timedelta(hours=1)
    await policies.go_without("llm.policy is not read yet")
    assert not policies.is_gone(taken, late)
    await policies._take(publish(1, ONE))
    assert policies.is_gone(taken, late)


async def test_what_was_kept_here_does_not_replace_what_was_read_meanwhile(tmp_path: Path) -> None:
    kept = KeptReleases(tmp_path, "cluster.name")
    await after(publish(1, ONE), kept=kept)
    policies = Policies(FILES, PolicyLog(FILES.policy.name), kept)
    await asyncio.gather(policies.go_without("not read yet"), policies._take(publish(1, TWO)))
    await policies._take([])
    assert policies.active.digest == TWO.digest


async def test_a_first_look_that_fails_is_taken_again_before_the_files_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A broker that is just starting may answer one question and not the next."""
    tries, records = 0, publish(1, ONE)

    class Reader:
        async def ends(self) -> dict[str, int]:
            return {"llm.policy": 2}

        async def until_end(self) -> AsyncIterator[Any]:
            for record in records:
                yield record

        async def follow_batches(self) -> AsyncIterator[Any]:
            await asyncio.Event().wait()
            yield []

    @contextlib.asynccontextmanager
    async def reading(*_: Any, **__: Any) -> AsyncIterator[Reader]:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise NotLeaderForPartitionError
        yield Reader()

    monkeypatch.setattr("consumers.policies.topic_reader", reading)
    monkeypatch.setattr("consumers.policies._SOON", 0)
    policies = Policies(FILES, PolicyLog(FILES.policy.name))
    following = asyncio.ensure_future(policies.follow(Clients(Settings().kafka)))
    await policies.is_known.wait()
    following.cancel()
    assert policies.words() == f"release {ONE.label} from llm.policy"
    assert tries == 2


async def test_few_releases_are_held_and_the_others_are_found_again() -> None:
    bundles = [edited(FILES, f"v{number}") for number in range(7)]
    policies = await after()
    for number, bundle in enumerate(bundles, 1):
        await policies._take(publish(number, bundle))
    assert len(policies.held) <= 4

    assert policies.of(under(bundles[0]), NOON) is None
    await policies._take([])
    assert policies.of(under(bundles[0]), NOON) is not None
    letter = a_letter(policy_digest=bundles[1].digest)
    assert (await policies.of_letter(letter)).digest == bundles[1].digest
    assert await policies.of_letter(a_letter()) is policies.active

    for bundle in bundles[2:6]:  # they take the first one's place again
        await policies.of_letter(a_letter(policy_digest=bundle.digest))
    assert policies.of(under(bundles[0]), NOON) is None
    await policies._take([])
    assert policies.of(under(bundles[0]), NOON) is not None


async def test_without_the_topic_what_was_active_here_last_is_applied(tmp_path: Path) -> None:
    kept = KeptReleases(tmp_path, "cluster.name")
    await after(publish(1, ONE), kept=kept)
    policies = Policies(FILES, PolicyLog(FILES.policy.name), kept)
    await policies.go_without("llm.policy cannot be read")

    assert policies.active.digest == ONE.digest
    [note] = policies.notes()
    assert note.startswith("llm.policy cannot be read")
    assert ONE.label in policies.words()

    await policies._take(publish(1, TWO))
    assert (policies.active.digest, policies.notes()) == (TWO.digest, [])


async def test_the_files_are_not_what_was_published_last(tmp_path: Path) -> None:
    """Other files may be deployed; the former ones still decide about the requests they have."""
    kept = KeptReleases(tmp_path, "cluster.name")
    await after(kept=kept)
    policies = Policies(ONE, PolicyLog(FILES.policy.name), kept)
    await policies.go_without("llm.policy is missing")
    assert policies.active is ONE

    assert policies.of(under(FILES), NOON) is None
    await policies._seek()
    found = policies.of(under(FILES), NOON)
    assert found is not None
    assert found.digest == FILES.digest


async def test_a_kept_release_that_somebody_has_changed_is_not_used(tmp_path: Path) -> None:
    kept = KeptReleases(tmp_path, "cluster.name")
    await after(publish(1, ONE), kept=kept)
    file = tmp_path / f"{ONE.digest}.json"
    file.write_text(file.read_text().replace("approval: person", "approval: none"))
    policies = Policies(FILES, PolicyLog(FILES.policy.name), kept)
    await policies.go_without("llm.policy cannot be read")

    assert policies.active is FILES

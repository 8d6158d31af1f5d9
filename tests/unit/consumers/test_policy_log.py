"""The log of releases as every process reads it: whose acts count, and which content."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from consumers.policy_log import PolicyLog
from consumers.settings import ReleaseKey, ReleaseSettings, Settings
from consumers.signing import SigningError, keys_of, new_key, signer_of
from schemas.base import EARLIEST
from schemas.codec import dump
from schemas.errors import ContractError
from schemas.policy_log import SIGNATURE_HEADER, PolicyAct, Release
from tests.builders import NOON


@dataclass(slots=True)
class Written:
    """A record of the topic."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    topic: str = "llm.policy"
    partition: int = 0
    offset: int = 0
    timestamp: int = int((NOON - EARLIEST).total_seconds() * 1000)
    #: 1: the broker's time; 0: the writer's.
    timestamp_type: int = 1


def settings_of(tmp_path: Path, *owners: str, sign_as: str) -> Settings:
    keys = {
        owner: ReleaseKey(public=new_key(tmp_path / owner), may=frozenset(("own",)))
        for owner in owners
    }
    file = tmp_path / sign_as
    return Settings(releases=ReleaseSettings(keys=keys, sign_as=sign_as, key_file=file))


def a_release(policy: str = "a policy") -> Release:
    return Release(name="support", version="1", digest="a" * 12, policy=policy)


def an_act(settings: Settings, number: int = 1, **fields: object) -> Written:
    """A signed publication."""
    release, signer = a_release(), signer_of(settings)
    about = {"version": release.version, "digest": release.digest, "seal": release.seal}
    made = {"policy": "support", "number": number, "who": "ann", "at": NOON, "what": "publish"}
    key = {"key_id": signer.key_id} if signer else {}
    act = PolicyAct.model_validate({**made, **about, **key, **fields})
    raw = dump(act.model_dump(mode="json", exclude_none=True))
    headers = [(SIGNATURE_HEADER, base64.b64encode(signer.sign(raw)))] if signer else []
    return Written(act.key, raw, headers)


def read(settings: Settings, *records: Written) -> PolicyLog:
    log = PolicyLog("support", keys_of(settings))
    for record in records:
        log.take(record)
    return log


def test_a_signed_act_counts(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "ann", sign_as="ann")

    log = read(settings, an_act(settings))

    assert log.standing.active is not None
    assert log.acts[0].refusal is None


def test_where_keys_are_listed_only_the_brokers_time_counts(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "ann", sign_as="ann")
    with pytest.raises(ContractError, match="the broker's time"):
        read(settings, replace(an_act(settings), timestamp_type=0))


def test_unsigned_changed_misattributed_and_repeated_acts_change_nothing(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "ann", "bob", sign_as="ann")
    good = an_act(settings)
    raw = good.value or b""
    unsigned = an_act(settings.model_copy(update={"releases": ReleaseSettings()}))
    edited = replace(good, value=raw.replace(b'"who":"ann"', b'"who":"eve"'))
    other_key = replace(good, value=raw.replace(b'"key_id":"ann"', b'"key_id":"bob"'))
    cut = replace(good, headers=[(SIGNATURE_HEADER, b"bm8=")])
    no_base64 = replace(good, headers=[(SIGNATURE_HEADER, b"\xff")])

    for record in (unsigned, edited, other_key, cut, no_base64, replace(good, headers=[])):
        log = read(settings, record)
        assert log.acts[0].refusal is not None
        assert log.standing.active is None
    assert [logged.refusal is None for logged in read(settings, good, good).acts] == [True, False]


def test_an_act_under_another_key_of_kafkas_is_none(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "ann", sign_as="ann")
    good = an_act(settings)

    assert read(settings, replace(good, key=b"support#00000002")).acts == []
    assert read(settings, replace(good, key=b"billing#00000001")).acts == []
    assert read(settings, replace(good, partition=1)).acts == []


def test_no_other_content_takes_a_releases_place(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "ann", sign_as="ann")
    release, forged = a_release(), a_release("another policy")
    records = [Written(each.key, dump(each.model_dump(mode="json"))) for each in (release, forged)]

    log = read(settings, *records, an_act(settings))
    assert log.release("a" * 12) == release
    assert read(settings, records[1], an_act(settings)).release("a" * 12) is None


def test_a_record_that_cannot_be_read_is_refused() -> None:
    log = PolicyLog("support")
    with pytest.raises(ContractError):
        log.take(Written(b"support#00000001", b'{"policy": "support"}'))
    assert log.acts == []


def test_a_key_file_is_its_owners_alone_and_is_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "ann"
    new_key(file)

    assert file.stat().st_mode & 0o077 == 0
    with pytest.raises(FileExistsError):
        new_key(file)


def test_a_file_without_a_key_is_named(tmp_path: Path) -> None:
    file = tmp_path / "ann"
    file.write_text("no key")
    settings = Settings(releases=ReleaseSettings(sign_as="ann", key_file=file))

    with pytest.raises(SigningError, match="holds no key"):
        signer_of(settings)

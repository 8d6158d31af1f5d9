"""`tierline topics acls`: who needs which rights, as commands that an administrator runs."""

import json
import shlex

import pytest

from consumers import parties
from consumers.rights import parties_with_rights, rights_of
from consumers.settings import KafkaSettings
from schemas.base import Tier

_KAFKA = KafkaSettings(prefix="staging.")


def test_a_stage_gets_what_it_declares_and_what_its_process_does_beside():
    rights = {(right.kind, right.name): right for right in rights_of(["work.low"], _KAFKA)}

    assert rights["topic", "staging.llm.tier.low"].operations == ("Read",)
    assert rights["topic", "staging.llm.results"].operations == ("Write",)
    assert rights["topic", "staging.llm.attempts"].operations == ("Write", "Read")
    assert rights["topic", "staging.llm.status"].operations == ("Write",)
    assert rights["topic", "staging.llm.policy"].operations == ("Read",)
    assert rights["group", "staging.work.low"].operations == ("Read",)
    assert rights["group", "staging.work.low.strikes"].operations == ("Read",)
    assert rights["transactional-id", "tierline.staging.work.low."].is_prefix
    assert ("topic", "staging.llm.intake") not in rights


def test_route_looks_at_the_groups_of_the_workers():
    described = [right.name for right in rights_of(["route"], _KAFKA) if right.kind == "group"]

    assert {f"staging.work.{tier}" for tier in Tier} <= {*described}


def test_the_console_looks_at_the_groups_of_all_stages():
    rights = {right.name: right.operations for right in rights_of(["console"], _KAFKA)}

    for kind in parties.STAGES:
        assert rights[f"staging.{kind.spec.name}"] == ("Describe",)


def test_a_system_outside_gets_its_topics_alone():
    [right] = rights_of(["producers"], _KAFKA)

    assert (right.name, right.operations) == ("staging.llm.intake", ("Write",))


def test_every_topic_that_is_declared_is_among_the_rights():
    for kind in parties.STAGES:
        named = {right.name for right in rights_of([kind.spec.name], KafkaSettings())}
        assert {*kind.spec.reads, *kind.spec.writes, *kind.spec.consults} <= named


def test_the_command_prints_a_line_for_each_right(tierline):
    _, printed, _ = tierline("topics", "acls", "route", "review", "--principal", "ann")
    words = [shlex.split(line) for line in printed.splitlines() if not line.startswith("#")]

    for line in words:
        assert line[:4] == ["kafka-acls", "--bootstrap-server", "HOST:PORT", "--add"]
        assert "User:ann" in line
    assert len(words) == len(rights_of(["route", "review"], KafkaSettings()))


def test_every_party_is_a_user_of_its_own_where_none_is_named(tierline):
    _, printed, _ = tierline("topics", "acls", "--json")
    rights = json.loads(printed)

    assert {right["principal"] for right in rights} == {
        f"User:tierline.{name}" for name in parties_with_rights()
    }


def test_a_party_that_there_is_none_of_is_told_with_the_nearest(tierline):
    code, _, printed = tierline("topics", "acls", "work.lo")

    assert code == 1
    assert "work.lo: one of route, admit, work.low" in printed
    assert printed.rstrip().endswith("did you mean work.low?")


@pytest.mark.parametrize("name", ["ledger", "status"])
def test_what_runs_within_stages_has_no_rights_of_its_own(name: str):
    assert name not in parties_with_rights()

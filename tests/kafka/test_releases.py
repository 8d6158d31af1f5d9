"""`tierline policy`: releases from a proposal to a rollback, as people type it, on a broker."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from consumers.runtime.clients import Clients
from consumers.runtime.topics import ensure_topics
from consumers.settings import Settings

pytestmark = pytest.mark.kafka

_TIERLINE = str(Path(sys.executable).with_name("tierline"))
_DEPLOYED = Path(__file__).parents[2] / "deploy" / "policy" / "routing.yaml"


class Cli:
    """Commands of one person against one prefix of one broker."""

    def __init__(self, settings: Settings, policy: Path) -> None:
        kafka = settings.kafka
        self.policy = policy
        self.env = {
            **os.environ,
            "TIERLINE_KAFKA__BOOTSTRAP": str(kafka.bootstrap),
            "TIERLINE_KAFKA__PREFIX": kafka.prefix,
            "TIERLINE_POLICY": str(policy),
        }

    def run(self, *words: str, code: int = 0) -> str:
        command = [_TIERLINE, "policy", *words]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == code, f"{words}: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout if code == 0 else done.stderr

    def json(self, *words: str) -> Any:
        return json.loads(self.run(*words, "--json"))

    def edit(self, version: str, **changes: Any) -> None:
        """Write another version of the policy's file."""
        policy = yaml.safe_load(_DEPLOYED.read_text(encoding="utf-8"))
        policy |= {"version": version, **changes}
        self.policy.write_text(yaml.safe_dump(policy, sort_keys=False), encoding="utf-8")


@pytest.fixture
def cli(settings: Settings, tmp_path: Path) -> Cli:
    asyncio.run(ensure_topics(Clients(settings.kafka)))
    return Cli(settings, tmp_path / "routing.yaml")


def test_a_release_from_its_proposal_to_its_rollback(cli: Cli) -> None:
    cli.edit("t1")
    assert "published version t1" in cli.run("publish", "--why", "the first one", "--who", "ann")

    cli.edit("t1", owner="Somebody else, who is new here.")
    assert "raise the version" in cli.run("publish", "--why", "no label", code=1)
    cli.edit("t2", owner="Somebody else, who is new here.")
    [change] = cli.json("diff")["changes"]
    assert "owner" in change
    texts = ("--why", "clear owner", "--problem", "nobody answers", "--expected", "an answer")
    cli.run("propose", *texts, "--way-back", "rollback", "--who", "carl")
    assert cli.json("log")["standing"]["active_version"] == "t1"
    cli.run("approve", "2", "--who", "ann")
    assert cli.json("log")["standing"]["active_version"] == "t2"

    cli.run("freeze", "--for", "1h", "--why", "peak")
    cli.edit("t3")
    assert "frozen" in cli.run("publish", "--why", "cheaper", code=1)
    cli.run("rollback", "--why", "it went wrong")
    again = cli.run("rollback", "--why", "it was right", "--to", "t2", code=1)
    assert "version t2 was not active before the present one" in again
    rollout = cli.json("publish", "--why", "urgent", "--break-glass", "outage")["standing"]
    assert rollout["active_version"] == "t3"

    log = cli.run("log")
    for words in ("what it fixes: nobody answers", "approved by: ann", "past a freeze: outage"):
        assert words in log
    assert "Version t3 is active." in log


def test_a_broken_example_is_not_released(cli: Cli) -> None:
    cli.edit("t1", examples=[{"says": "A mistake.", "request": {"input": "Hi"}, "tier": "premium"}])

    assert "example failed: A mistake." in cli.run("publish", "--why", "oops", code=1)
    assert cli.json("log")["acts"] == []


def test_only_listed_keys_decide(cli: Cli, tmp_path: Path) -> None:
    lines = cli.run("keygen", "ann", "--file", str(tmp_path / "ann.key")).split()
    cli.env |= dict(line.split("=", 1) for line in lines if line.startswith("TIERLINE_"))
    cli.edit("t1")
    cli.run("publish", "--why", "signed")

    del cli.env["TIERLINE_RELEASES__SIGN_AS"], cli.env["TIERLINE_RELEASES__KEY_FILE"]
    cli.edit("t2")
    assert "not signed" in cli.run("publish", "--why", "unsigned", code=1)


def test_what_is_new_against_the_active_release_needs_its_reasons(cli: Cli) -> None:
    """Whatever a lock beside the file says, or where there is none."""
    cli.edit("t1")
    cli.run("publish", "--why", "the first one")
    tasks = yaml.safe_load(cli.policy.read_text(encoding="utf-8"))["tasks"]
    row = {"trigger": "a list is to be sorted", "tier": "low", "reason": "easy", "owner": "data"}
    cli.edit("t2", tasks={**tasks, "sorting": row})
    assert "sorting is new: write its problem" in cli.run("publish", "--why", "sorted", code=1)


def test_an_act_without_a_file_is_about_the_policy_of_the_log(cli: Cli) -> None:
    """Whoever is called at night may have other files; of several policies one is named."""
    cli.edit("t1", name="billing")
    cli.run("publish", "--why", "the first one")
    cli.edit("t1")
    window = ("--for", "1h", "--why", "peak")
    assert cli.json("freeze", *window)["standing"]["name"] == "billing"

    cli.run("publish", "--why", "the first one of another policy")
    assert "policies of the log: billing, support; name" in cli.run("freeze", *window, code=1)
    named = cli.json("freeze", *window, "--policy", "billing")
    assert named["standing"]["number"] == 3
    assert cli.json("log", "--policy", "support")["standing"]["number"] == 1


def test_a_canary_goes_its_steps(cli: Cli) -> None:
    cli.edit("t1")
    cli.run("publish", "--why", "the first one")
    cli.edit("t2")
    cli.run("canary", "start", "--why", "try it", "--task", "triage", "--share", "50%")
    rollout = cli.json("log")["standing"]
    assert (rollout["candidate_version"], rollout["share"]) == ("t2", 0.5)

    assert cli.json("canary", "step")["standing"]["active_version"] == "t2"
    assert "no candidate" in cli.run("canary", "stop", "--why", "late", code=1)

"""The command line on a real broker, as a user types it: `up`, and the other commands beside it."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Producer

from schemas.codec import dead_letter_headers
from schemas.dead_letter import DeadLetter, Pointer
from schemas.reasons import Reason
from schemas.topics import Topics
from tests.builders import NOON, an_attempt
from tests.kafka.flow import read_topics

pytestmark = pytest.mark.kafka

_TIERLINE = str(Path(sys.executable).with_name("tierline"))
_LINES = (
    '{"id": "cli-1", "task": "triage", "input": "I cannot log in since Monday, account 7712"}',
    '{"id": "cli-2", "task": "support_answer", "input": "How do I export 12 reports?"}',
    '{"id": "cli-refund", "task": "billing_dispute", "input": "Order 991: I want a refund"}',
    '{"id": "cli-poison", "task": "triage", "input": "this line breaks off',
)


@dataclass(frozen=True, slots=True)
class _Cli:
    """Commands against one prefix of one broker."""

    bootstrap: str
    topics: Topics
    env: Mapping[str, str]

    def run(self, *words: str, code: int = 0, stdin: str | None = None) -> str:
        """Run a command that must end with this exit code; what it prints."""
        done = self._run(*words, stdin=stdin)
        assert done.returncode == code, f"{words}: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stdout + done.stderr
        return done.stdout

    def refuse(self, *words: str, code: int = 1, stdin: str | None = None) -> str:
        """Run a command that must fail with this exit code; the one line in which it says why."""
        done = self._run(*words, stdin=stdin)
        assert done.returncode == code, f"{words}: {done.stdout}{done.stderr}"
        (line,) = done.stderr.splitlines()
        return line

    def json(self, *words: str) -> Any:
        """Run a command with `--json` and parse what it prints."""
        return json.loads(self.run(*words, "--json"))

    def up(self, *words: str) -> subprocess.Popen[str]:
        """Start `up`; it is ready when this returns."""
        process = subprocess.Popen(
            [_TIERLINE, "up", "--simulate", "--no-console", *words],
            env=self.env,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(3)]
        assert f"Kafka {self.bootstrap}" in said[0]
        assert said[1].startswith("release "), said
        assert "Ctrl-C" in said[2], said
        return process

    def _run(self, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [_TIERLINE, *words],
            env=self.env,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )


@pytest.fixture(scope="module")
def cli(broker: str, tmp_path_factory: pytest.TempPathFactory) -> _Cli:
    """Commands with a home, and a prefix, of their own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TIERLINE_")}
    home, prefix = tmp_path_factory.mktemp("home"), f"t{uuid.uuid4().hex[:10]}."
    ours = {
        "HOME": str(home),
        "XDG_DATA_HOME": str(home / "data"),
        "TIERLINE_KAFKA__BOOTSTRAP": broker,
        "TIERLINE_KAFKA__PREFIX": prefix,
        "TIERLINE_KAFKA__PARTITIONS": "2",
        "TIERLINE_KAFKA__SESSION_TIMEOUT": "PT6S",
        "TIERLINE_KAFKA__HEARTBEAT_INTERVAL": "PT1S",
    }
    return _Cli(broker, Topics(prefix), {**kept, **ours})


@pytest.fixture(scope="module")
def flowing(cli: _Cli, tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Cli]:
    """`up` is running, and a file of requests has been through it."""
    cli.run("topics", "create")
    process = cli.up("--kafka", cli.bootstrap)
    try:
        file = tmp_path_factory.mktemp("requests") / "requests.jsonl"
        file.write_text("\n".join(_LINES) + "\n")
        said = cli.run("submit", str(file), "--wait", "--timeout", "60", code=1)
        assert "4 requests published" in said
        assert "4 outcomes: 2 answers, 1 answer to approve, 1 dead letter" in said
        assert "1 not_json: " in said
        assert "next: `tierline dead-letters list --last 2`" in said
        yield cli
    finally:
        process.terminate()
        said, _ = process.communicate(timeout=40)
    assert process.returncode == 0
    assert "draining" in said


def test_results_are_what_the_topic_holds(flowing: _Cli) -> None:
    lines = [json.loads(line) for line in flowing.run("results", "--json").splitlines()]
    assert {"cli-1", "cli-2"} <= {line["id"] for line in lines}
    topic = flowing.topics.results
    seen = read_topics(flowing.bootstrap, [topic])
    assert sorted(line["id"] for line in lines) == sorted(one.json["id"] for one in seen)
    assert "cli-1" in flowing.run("results", "--limit", "2", "--follow")
    said = flowing.refuse("results", "--task", "nobodys", code=0)
    assert said == "tierline: no results match"


def test_a_prompt_and_standard_input_can_be_submitted(flowing: _Cli) -> None:
    said = flowing.run("submit", "How do I add a seat?", "--task", "support_answer", "--wait")
    assert "1 request published: `tierline explain cli-" in said
    assert '"answer": "' in said
    assert "1 outcome: 1 answer\n" in said
    assert "next: `tierline explain cli-" in said
    line = '{"id": "cli-stdin", "task": "triage", "input": "The app crashes on export, 4.2"}\n'
    told = json.loads(flowing.run("submit", "-", "--wait", "--json", stdin=line))
    assert (told["published"], told["results"], told["unfinished"]) == (1, {"answer": 1}, 0)
    assert flowing.json("explain", "cli-stdin")["done"]


def test_repeats_and_other_bodies_under_one_id_are_waited_for(flowing: _Cli) -> None:
    line = '{"id": "cli-again", "task": "triage", "input": "The app crashes on export, 4.2"}\n'
    other = line.replace("export", "import")
    said = flowing.run("submit", "-", "--wait", stdin=line + line + other, code=1)
    assert "3 requests published, 1 repeat of them" in said
    assert "2 outcomes: 1 answer, 1 dead letter\n  1 id_reused: " in said


def test_batch_files_that_number_their_lines_alike_are_all_answered(flowing: _Cli) -> None:
    def a_file(day: str) -> str:
        chat = {"messages": [{"role": "user", "content": f"How do I export {day}'s report?"}]}
        body = {**chat, "metadata": {"task": "support_answer"}}
        lines = ({"custom_id": f"row {n}", "url": "/chat/completions", "body": body} for n in "12")
        return "\ufeff" + "\r\n".join(map(json.dumps, lines)) + "\r\n"

    for day in ("Monday", "Tuesday"):
        assert "2 outcomes: 2 answers\n" in flowing.run("submit", "-", "--wait", stdin=a_file(day))
    named = ("submit", "-", "--wait", "--batch", "reports")
    assert "2 outcomes: 2 answers\n" in flowing.run(*named, stdin=a_file("Monday"))
    said = flowing.run(*named, stdin=a_file("Tuesday"), code=1)
    assert "2 outcomes: 2 dead letters\n  2 id_reused: " in said
    assert "--batch NAME" in said
    results = [json.loads(line) for line in flowing.run("results", "--json").splitlines()]
    assert sum(one["custom_id"] == "row 1" for one in results) == 3
    ids = {one["id"] for one in results if one["custom_id"] == "row 1"}
    said = flowing.refuse("explain", "row 1")
    assert "3 requests have the custom_id 'row 1'" in said
    assert all(id_ in said for id_ in ids)
    alone = json.loads(a_file("Friday").lstrip("\ufeff").split("\r\n")[0])
    flowing.run("submit", "-", "--wait", stdin=json.dumps({**alone, "custom_id": "only row"}))
    told = flowing.json("explain", "only row")
    assert told["done"]
    assert told["moments"][0]["what"] == "accepted"
    assert told == flowing.json("explain", told["request_id"])


def test_a_file_that_is_sent_again_ends_with_what_had_come_of_it(flowing: _Cli) -> None:
    line = '{"id": "cli-twice", "task": "support_answer", "input": "How do I add 3 seats?"}\n'
    wrong = '{"id": "cli-wrong", "task": "triage"}\n'
    flowing.run("submit", "-", "--wait", stdin=line + wrong, code=1)
    began = time.monotonic()
    said = flowing.run("submit", "-", "--wait", "--timeout", "80", stdin=line + wrong, code=1)
    assert time.monotonic() - began < 60
    assert "2 outcomes: 1 answer, 1 dead letter\n" in said
    assert "of them already done before this run" in said
    said = flowing.run("submit", "-", "--wait", "--timeout", "80", stdin=line)
    assert "1 outcome: 1 answer\n  1 of them already done before this run" in said


def test_a_file_that_is_no_utf_8_is_refused_before_anything_is_published(
    flowing: _Cli, tmp_path: Path
) -> None:
    before = {row["topic"]: row["offsets"] for row in flowing.json("topics", "list")}
    file = tmp_path / "requests.jsonl"
    file.write_bytes("\n".join(_LINES).encode("utf-16"))
    assert f"{file}: UTF-16 text; UTF-8 was expected" in flowing.refuse("submit", str(file))
    after = {row["topic"]: row["offsets"] for row in flowing.json("topics", "list")}
    assert after[flowing.topics.intake] == before[flowing.topics.intake]


def test_what_kafka_refuses_is_told_with_what_it_has(flowing: _Cli, tmp_path: Path) -> None:
    """It fits into a request, and with its key and headers not into a record."""
    head, file = '{"id": "cli-large", "task": "triage", "input": "', tmp_path / "large.jsonl"
    file.write_text(f'{head}{"x" * (1_048_570 - len(head))}"}}\n')
    said = flowing.refuse("submit", str(file), "--wait")
    assert "Kafka has acknowledged 0 of 1 request and refused one of the next" in said


def test_a_pipe_is_a_file(flowing: _Cli) -> None:
    line = '{"id": "cli-pipe", "task": "triage", "input": "The app crashes on export, 4.2"}'
    said = subprocess.run(
        ["bash", "-c", f"{_TIERLINE} submit <(echo '{line}') --wait"],
        env=flowing.env,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "1 outcome: 1 answer" in said


def test_nothing_to_send_and_a_broken_address_are_one_line(flowing: _Cli) -> None:
    assert "nothing to send" in flowing.refuse("submit", "-", stdin="\n")
    for address in ("foo:bar", ":", "kafka", "kafka:0"):
        said = flowing.refuse("results", "--kafka", address)
        assert f"--kafka {address}: HOST:PORT was expected" in said


@pytest.mark.parametrize("what", ["", " ", "./missing.txt", "/tmp", "requests.jsonl"])
def test_what_is_neither_a_file_nor_a_prompt_is_not_sent(flowing: _Cli, what: str) -> None:
    assert flowing.refuse("submit", what)


def test_a_journey_is_told_from_the_topics_alone(flowing: _Cli) -> None:
    told = flowing.json("explain", "cli-2")
    assert told["task"] == "support_answer"
    assert told["done"]
    assert told["cost_micros"] > 0
    assert len(told["moments"]) >= 3
    assert "cli-2 (support_answer)" in flowing.run("explain", "cli-2")
    assert "no topic has a request whose id or custom_id is 'cli-9'" in flowing.refuse(
        "explain", "cli-9"
    )


def test_trace_shows_where_the_time_of_a_request_went(flowing: _Cli) -> None:
    told = flowing.json("trace", "cli-2")
    hops = [bar["name"].rpartition(".")[2] for bar in told["bars"] if not bar["depth"]]
    calls = [bar for bar in told["bars"] if bar["depth"]]

    assert (hops[0], hops[-1]) == ("intake", "results")
    assert len(calls) == len(flowing.json("explain", "cli-2")["moments"]) - len(hops)
    ends = [bar["start_ms"] + bar["duration_ms"] for bar in told["bars"] if not bar["depth"]]
    starts = [bar["start_ms"] for bar in told["bars"] if not bar["depth"]]
    assert ends[:-1] == starts[1:]
    assert all(bar["duration_ms"] > 0 for bar in calls)
    assert len(told["trace_id"]) == 32
    assert told["trace_id"] in flowing.run("trace", "cli-2")
    assert "id or custom_id is 'cli-9'" in flowing.refuse("trace", "cli-9")


def test_a_recorded_call_is_shown_and_made_again_without_a_trace_in_the_topics(
    flowing: _Cli,
) -> None:
    before = {row["topic"]: row["offsets"] for row in flowing.json("topics", "list")}
    shown = flowing.json("replay-call", "cli-2")
    sent = flowing.json("replay-call", "cli-2", "--send")
    after = {row["topic"]: row["offsets"] for row in flowing.json("topics", "list")}

    assert shown["sent"] is None
    assert shown["recorded"]["answer"]["answer"]
    assert shown["today"]["prompt_version"] == shown["recorded"]["prompt_version"]
    assert shown["today"]["body"]["messages"][-1]["content"] == "How do I export 12 reports?"
    assert sent["sent"]["outcome"] in ("accepted", "rejected")
    assert 0 < sent["sent"]["cost_micros"] <= sent["today"]["most_cost_micros"]
    del before[flowing.topics.status], after[flowing.topics.status]  # says how all is every 5 s
    assert after == before
    assert "How do I export 12 reports?" in flowing.run("replay-call", "cli-2")
    assert "sim-large" in flowing.run("replay-call", "cli-2", "--send", "--model", "sim-large")
    assert "has no attempt 9" in flowing.refuse("replay-call", "cli-2", "--attempt", "9")


def test_dead_letters_are_listed_and_shown(flowing: _Cli) -> None:
    listed = {row["reason"]: row for row in flowing.json("dead-letters", "list")}
    assert {"approval_required", "not_json"} <= set(listed)
    assert listed["approval_required"]["request"] == "cli-refund"
    assert listed["not_json"]["request"] == "cli-poison"
    only = flowing.json("dead-letters", "list", "--reason", "not_json")
    assert [row["reason"] for row in only] == ["not_json"]

    shown = flowing.json("dead-letters", "show", listed["not_json"]["where"])
    assert shown["value"] == _LINES[3]
    assert shown["attempts"] == []
    assert _LINES[3] in flowing.run("dead-letters", "show", listed["not_json"]["where"])
    assert "no dead letter 'cli-9'" in flowing.refuse("dead-letters", "show", "cli-9")


def test_feedback_is_for_a_request_that_a_topic_knows(flowing: _Cli) -> None:
    topics = [flowing.topics.feedback]
    before = read_topics(flowing.bootstrap, topics)
    said = flowing.refuse("feedback", "no-such-request", "accepted")
    assert "no topic has a request whose id or custom_id is 'no-such-request'" in said
    assert flowing.run("feedback", "cli-1", "accepted") == "noted: cli-1 accepted\n"
    after = read_topics(flowing.bootstrap, topics, len(before) + 1)
    assert [one.json["request_id"] for one in after[len(before) :]] == ["cli-1"]


def test_a_requeued_request_comes_back_as_the_next_generation(flowing: _Cli) -> None:
    before = read_topics(flowing.bootstrap, [flowing.topics.dead_letters])
    assert "waits for approval" in flowing.refuse("dead-letters", "requeue", "cli-refund")
    said = flowing.run("dead-letters", "requeue", "cli-refund", "--force")
    assert "generation 2" in said
    after = read_topics(flowing.bootstrap, [flowing.topics.dead_letters], len(before) + 1)
    (again,) = (one for one in after if one.header("tierline-generation") == "2")
    assert again.header("tierline-reason") == "approval_required"
    assert again.value == _LINES[2].encode()
    [older] = [one for one in before if one.header("tierline-request-id") == "cli-refund"]
    place = f"{older.topic}-{older.partition}-{older.offset}"
    said = flowing.refuse("dead-letters", "requeue", place, "--force")
    assert "was decided on already: requeue by " in said
    listed = flowing.json("dead-letters", "list", "--reason", "approval_required")
    of_it = [row for row in listed if row["request"] == "cli-refund"]
    assert sorted((row["generation"], row["decided"]) for row in of_it) == [(1, "requeue"), (2, "")]
    shown = flowing.json("dead-letters", "show", "cli-refund")
    assert shown["generation"] == 2
    assert [attempt["attempt_no"] for attempt in shown["attempts"]] == [
        *range(1, len(shown["attempts"]) + 1)
    ]


def test_many_are_requeued_after_a_dry_run_and_none_twice(flowing: _Cli) -> None:
    lines = [
        json.dumps(
            {
                "id": f"cli-many-{no}",
                "task": "billing_dispute",
                "input": "Order 991: I want a refund",
            }
        )
        for no in range(3)
    ]
    flowing.run("submit", "-", "--wait", stdin="\n".join(lines))
    words = ("dead-letters", "requeue", "--reason", "approval_required", "--since", "1h")
    left = json.loads(flowing.run(*words, "--json"))
    assert (left["chosen"], left["sent"]) == (0, 0)
    assert any("waits for approval" in why for why in left["left_alone"])

    dry = json.loads(flowing.run(*words, "--force", "--most", "2", "--tier", "premium", "--json"))
    assert (dry["chosen"], dry["sent"]) == (2, 0)
    assert dry["cost_micros"] > 0
    assert dry["more"] >= 1
    many = (*words, "--force", "--most", "2")
    said = flowing.run(*many, "--tier", "premium", "--rate", "100", "--yes")
    assert "2 dead letters sent through again; about $" in said
    again = json.loads(flowing.run(*many, "--json"))
    assert again["left_alone"]["it was decided on already"] >= 2
    flowing.refuse("dead-letters", "requeue")
    flowing.refuse("dead-letters", "requeue", "cli-1", "--reason", "not_json")
    assert "--tier big" in flowing.refuse("dead-letters", "requeue", "cli-1", "--tier", "big")


def test_what_was_never_readable_is_not_requeued(flowing: _Cli) -> None:
    (row,) = flowing.json("dead-letters", "list", "--reason", "not_json")
    said = flowing.refuse("dead-letters", "requeue", row["where"])
    assert "never readable; fix it and publish it to intake" in said
    assert "30 minutes" in flowing.refuse(
        "dead-letters", "requeue", "cli-refund", "--deadline", "30 minutes"
    )


def test_topics_are_listed_with_their_partitions(flowing: _Cli) -> None:
    rows = {row["topic"]: row for row in flowing.json("topics", "list")}
    assert set(rows) == {name for name, _ in flowing.topics.all()}
    assert {row["partitions"] for row in rows.values()} == {2}
    assert rows[flowing.topics.intake]["offsets"] >= len(_LINES)


def test_the_doctor_finds_everything_in_order(flowing: _Cli) -> None:
    found = flowing.json("doctor")
    assert all(one["ok"] for one in found), found
    assert {"Kafka", "topics", "policy", "clock"} <= {one["check"] for one in found}
    assert [one["detail"] for one in found if one["check"] == "clock"] == ["it agrees with Kafka's"]


def test_the_doctor_names_a_key_that_cannot_be_read(cli: _Cli) -> None:
    ours = {"BASE_URL": "https://api.example.com/v1", "API_KEY_FILE": "/no/such/key"}
    named = {f"TIERLINE_PROVIDERS__SIMULATED__{name}": said for name, said in ours.items()}
    said = replace(cli, env={**cli.env, **named}).run("doctor", "--json", code=1)
    [found] = [one for one in json.loads(said) if one["check"] == "provider simulated"]
    assert not found["ok"]
    assert "the file /no/such/key holds no usable key" in found["detail"]


def test_top_shows_what_every_process_says_of_itself_until_it_has_ended(flowing: _Cli) -> None:
    limit = time.monotonic() + 30

    def told() -> Any:
        assert time.monotonic() < limit
        return flowing.json("top")

    while not sum(model["calls"] for one in told() for model in one["models"]):
        pass
    [status] = told()
    assert {one["stage"] for one in status["stages"]} >= {"route", "work.low"}
    assert {one["breaker"] for one in status["models"]} == {"closed"}
    shown = flowing.run("top", "--once")
    assert all(word in shown for word in (status["process"], "work.low", "sim-small", "well"))

    beside = flowing.up("--only", "route")
    try:
        while len(told()) < 2:
            pass
    finally:
        beside.terminate()
        beside.communicate(timeout=40)
    assert [one["process"] for one in told()] == [status["process"]]


def test_up_serves_the_console_with_the_whole_flow_and_drains_with_it(flowing: _Cli) -> None:
    """Its port may be taken; then `up` says so, and starts nothing."""
    words = [_TIERLINE, "up", "--only", "review", "--console", "--console-port", "0"]
    with subprocess.Popen(words, env=flowing.env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        url = next(line for line in lines if line.startswith("the console is at ")).split()[-1]
        try:
            taken = flowing.refuse("up", "--simulate", "--console-port", url.rpartition(":")[2])
            assert "name another port with --console-port" in taken
            with httpx.Client(base_url=url, trust_env=False) as http:
                limit, known, told, page = time.monotonic() + 60, set[str](), dict[str, Any](), ""
                shown = {
                    flowing.topics.intake,
                    "work.low",
                    "sim-small",
                    "loop lag",
                    "reason=not_json",
                }
                # A status that was sent while partitions moved has no topics.
                while not known >= {"route", "work.low", "review", "not_json"} or not all(
                    text in page for text in shown
                ):
                    assert time.monotonic() < limit, (known, page)
                    told, page = http.get("/api/flow").json(), http.get("/flow").text
                    known = {row["stage"] for row in told["topics"]} | {*told["dead_letters"]}
                assert told["stages_not_run"] == {}
            assert "work.low" in flowing.run("top", "--once")
        finally:
            process.terminate()
            said, _ = process.communicate(timeout=60)
        assert "draining" in said
        assert process.returncode == 0


def test_an_address_without_kafka_is_one_clear_line(cli: _Cli) -> None:
    said = cli.refuse("results", "--kafka", "127.0.0.1:9", code=3)
    assert "no Kafka at 127.0.0.1:9" in said


def test_nothing_is_created_on_a_kafka_that_is_named_but_by_topics_create(cli: _Cli) -> None:
    elsewhere = replace(cli, env={**cli.env, "TIERLINE_KAFKA__PREFIX": f"t{uuid.uuid4().hex[:8]}."})
    done = elsewhere._run("up", "--simulate")
    assert done.returncode == 1
    assert "llm.intake: missing; create it, or run `tierline topics create`" in done.stderr
    assert {row["partitions"] for row in elsewhere.json("topics", "list")} == {"missing"}
    said = elsewhere.refuse("submit", "hello", code=3)
    assert f"it has no topic {elsewhere.env['TIERLINE_KAFKA__PREFIX']}llm.intake" in said
    assert "`tierline topics create`" in said


def test_a_kafka_that_is_named_is_answered_by_the_simulator_only_when_that_is_asked_for(
    flowing: _Cli,
) -> None:
    said = flowing.refuse("up")
    assert f"the requests on {flowing.bootstrap} with made-up text" in said
    assert "--simulate" in said


@pytest.mark.parametrize(("is_named", "models"), [(True, "simulated"), (False, "configured")])
def test_the_simulator_joins_nobody_who_calls_real_models(
    flowing: _Cli, tmp_path: Path, is_named: bool, models: str
) -> None:
    noted = tmp_path / "tierline" / "address"
    noted.parent.mkdir()
    noted.write_text(f"{os.getpid()} {flowing.bootstrap} {models}\n")
    env = {**flowing.env, "XDG_DATA_HOME": str(tmp_path)}
    if not is_named:
        del env["TIERLINE_KAFKA__BOOTSTRAP"]
    said = replace(flowing, env=env).refuse("up")
    assert f"the requests on {flowing.bootstrap} with made-up text" in said


def test_options_for_an_own_broker_and_a_named_kafka_exclude_each_other(cli: _Cli) -> None:
    assert "give one or the other" in cli.refuse("up", "--kafka", cli.bootstrap, "--port", "29092")


def test_a_variable_that_sets_nothing_stops_every_command(cli: _Cli) -> None:
    mistaken = replace(cli, env={**cli.env, "TIERLINE_KAFKA__SESION_TIMEOUT": "PT6S"})
    for words in (("up",), ("topics", "list"), ("doctor",), ("submit", "hello")):
        said = mistaken.refuse(*words)
        assert "TIERLINE_KAFKA__SESION_TIMEOUT: there is no such setting" in said
        assert "TIERLINE_KAFKA__SESSION_TIMEOUT is the nearest" in said


def test_stages_run_apart_and_end_on_sigterm_and_ctrl_c(flowing: _Cli) -> None:
    cli = flowing
    told = {
        signal.SIGTERM: cli.up("--only", "route"),
        signal.SIGINT: cli.up("--only", "work", "--tier", "low"),
        signal.SIGHUP: cli.up("--only", "review"),
    }
    try:
        for number, process in told.items():
            process.send_signal(number)
        for process in told.values():
            said, _ = process.communicate(timeout=40)
            assert "draining" in said
            assert process.returncode == 0
    finally:
        for process in told.values():
            process.kill()


def _broker_of(data: Path) -> int:
    """The process id of the Java that keeps its data there."""
    for commands in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            said = commands.read_bytes().split(b"\0")
            its_own = [b"kafka.Kafka", bytes(data / "server.properties")]
            if said[-3:-1] == its_own and said[0].endswith(b"java"):
                return int(commands.parent.name)
    raise AssertionError(data)


def test_the_death_of_our_own_broker_is_told_and_ends_up(cli: _Cli, tmp_path: Path) -> None:
    env = {name: value for name, value in cli.env.items() if name != "TIERLINE_KAFKA__BOOTSTRAP"}
    process = subprocess.Popen(
        [_TIERLINE, "up", "--no-console", "--data-dir", str(tmp_path / "kafka")],
        env={**env, "TIERLINE_WORKER__DRAIN_FOR": "PT1S"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        while "Ctrl-C" not in process.stdout.readline():
            assert process.poll() is None
        began = time.monotonic()
        os.kill(_broker_of(tmp_path / "kafka"), signal.SIGKILL)
        said = process.stdout.readline()
        assert time.monotonic() - began < 50  # alone on a machine it takes a moment
        assert "was killed (signal 9)" in said
        assert str(tmp_path / "kafka" / "broker.log") in said
        assert "start `tierline up` again" in said
        out, err = process.communicate(timeout=80)
        assert "was killed" not in out + err  # it is told once
        assert "has ended; the reason is above" in err
        assert process.returncode == 3
    finally:
        process.kill()
        process.communicate()


def test_submit_keeps_its_time_whatever_kafka_does(cli: _Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        said = cli.refuse("submit", "hello", "--wait", "--timeout", "1", "--kafka", address, code=3)
        assert time.monotonic() - began < 30
    assert "Kafka acknowledged 0 of 1 request within 1 s" in said
    assert "a prompt and lines without an id may be processed twice" in said


def test_what_a_rejected_call_asked_for_is_shown(flowing: _Cli) -> None:
    called = {"tool_calls": [{"function": {"name": "delete_everything"}}]}
    verdict = {"outcome": "rejected", "checks": [], "output": called}
    letter = DeadLetter(
        request_id="cli-tools",
        reason=Reason.TOOL_CALL_BROKEN,
        detail="",
        stage="work.premium",
        source=Pointer(topic=flowing.topics.intake, partition=0, offset=0),
        failed_at=NOON,
        attempts=[an_attempt(reply="", verdict=verdict)],
    )
    producer = Producer({"bootstrap.servers": flowing.bootstrap})
    headers: Any = dead_letter_headers(letter, [])
    producer.produce(flowing.topics.dead_letters, b"{}", partition=0, headers=headers)
    producer.flush(20)

    assert "delete_everything" in flowing.run("dead-letters", "show", "cli-tools")


def test_what_others_have_written_is_skipped_and_named(flowing: _Cli) -> None:
    """A foreign record among the dead letters or the results stops no command."""
    producer = Producer({"bootstrap.servers": flowing.bootstrap})
    for topic in (flowing.topics.dead_letters, flowing.topics.results):
        producer.produce(topic, b"not ours", partition=0)
    producer.flush(20)

    for words in (("dead-letters", "list"), ("results",)):
        done = flowing._run(*words)
        assert done.returncode == 0
        assert "-0-" in done.stderr
        assert "cli-" in done.stdout


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, which is soon filled."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("no disk may be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_disk_that_is_full_is_told_with_its_log_and_what_to_do(
    cli: _Cli, small_disk: Path, tmp_path: Path
) -> None:
    env = {name: text for name, text in cli.env.items() if name != "TIERLINE_KAFKA__BOOTSTRAP"} | {
        "XDG_DATA_HOME": str(tmp_path / "home")
    }
    words = [_TIERLINE, "up", "--no-console", "--data-dir", str(small_disk / "kafka")]
    with subprocess.Popen(words, env=env, text=True, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "Ctrl-C" in line:
                break
        with pytest.raises(OSError, match="No space left"):
            (small_disk / "filled").write_bytes(bytes(shutil.disk_usage(small_disk).total))
        began, said = time.monotonic(), process.stdout.readline()
        took = time.monotonic() - began
        rest = process.stdout.read()
    assert f"the disk of {small_disk / 'kafka'} is full" in said
    assert f"Its log: {small_disk / 'kafka' / 'broker.log'}" in said
    assert "Make room there" in said
    assert took < 50  # alone on a machine it takes a second
    assert "then start `tierline up` again" in rest
    assert process.returncode == 3
    again = subprocess.run(words, env=env, text=True, capture_output=True, check=False)
    assert again.returncode == 3
    assert "is full" in again.stderr
    assert "Make room there, or give another --data-dir" in again.stderr

"""The published documents are current, valid, and true of what we write."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson
import pytest
import yaml

from consumers.cli.publish import PUBLISHED, documents
from consumers.parties import STAGES
from router.policy.yaml_text import read_yaml
from schemas.base import Tier
from schemas.codec import dump_envelope
from schemas.escalation import Assignment, Origin, RouteTaken
from schemas.topics import TOPICS

POLICY = Path(__file__).parents[3] / "deploy" / "policy" / "routing.yaml"
CONTRACTS = sorted(name for name in documents() if name.endswith(".json"))


def schema(name: str) -> Any:
    return orjson.loads(documents()[name])


def refs(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from (value for key, value in node.items() if key == "$ref")
    for child in (
        node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    ):
        yield from refs(child)


def test_what_is_committed_is_what_make_generate_writes() -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in PUBLISHED.iterdir()}

    assert committed == documents(), "run `make generate` and commit schemas/published"


@pytest.mark.parametrize("name", CONTRACTS)
def test_each_contract_is_a_valid_schema_of_the_newest_draft(name: str) -> None:
    jsonschema_rs.meta.validate(schema(name))


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param({"input": "Where is my parcel?"}, id="a plain prompt"),
        pytest.param(
            {"input": [{"role": "user", "content": "Hi"}], "task": "triage"}, id="messages"
        ),
        pytest.param({"input": "Hi", "deadline": "2026-01-31T12:00:00Z"}, id="a deadline"),
        pytest.param({"input": "Hi", "colour": "red"}, id="a field we do not know"),
    ],
)
def test_a_request_we_accept_satisfies_its_schema(request_: dict[str, Any]) -> None:
    jsonschema_rs.validate(schema("request.v1.json"), request_)


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param({"task": "triage"}, id="no input"),
        pytest.param({"input": "Hi", "ambiguity": 2}, id="ambiguity above 1"),
        pytest.param({"input": "Hi", "blast_radius": "huge"}, id="an unknown blast radius"),
    ],
)
def test_a_request_we_refuse_violates_its_schema(request_: dict[str, Any]) -> None:
    assert not jsonschema_rs.is_valid(schema("request.v1.json"), request_)


def test_an_assignment_on_the_wire_satisfies_its_schema() -> None:
    instant = datetime(2026, 1, 1, tzinfo=UTC)
    assignment = Assignment(
        id="r-1",
        origin=Origin(topic="llm.intake", partition=0, offset=7, appended_at=instant),
        deadline=instant,
        attempts_left=3,
        routes=[
            RouteTaken(
                tier=Tier.LOW,
                rule="otherwise",
                reason="plain",
                policy_version="1",
                routed_at=instant,
            )
        ],
    )

    written = orjson.loads(dump_envelope(assignment, b'{"input":"Hi"}'))

    jsonschema_rs.validate(schema("assignment.v1.json"), written)


def test_the_policy_as_shipped_satisfies_its_schema() -> None:
    policy, _, problems = read_yaml(POLICY.read_text(encoding="utf-8"))

    assert not problems
    jsonschema_rs.validate(schema("routing-policy.json"), policy)


@pytest.mark.parametrize(
    "file", sorted((POLICY.parents[1]).glob("p*/*.yaml")), ids=lambda f: f.stem
)
def test_a_policy_names_its_schema_for_editors(file: Path) -> None:
    line = file.read_text(encoding="utf-8").splitlines()[0]

    schema_file = line.removeprefix("# yaml-language-server: $schema=")
    assert (file.parent / schema_file).resolve() == PUBLISHED / "routing-policy.json"


def test_the_schema_says_what_a_field_means_and_what_counts_without_it() -> None:
    limits = schema("routing-policy.json")["$defs"]["AttemptLimits"]["properties"]["deadline"]

    assert limits["default"] == "15m"
    assert "How long it may take" in limits["description"]


def test_a_policy_with_a_misspelt_field_violates_its_schema() -> None:
    policy, _, _ = read_yaml(POLICY.read_text(encoding="utf-8"))

    assert not jsonschema_rs.is_valid(schema("routing-policy.json"), {**policy, "taks": {}})


def test_a_message_is_written_and_read_where_the_topic_table_says() -> None:
    document = yaml.safe_load(documents()["asyncapi.yaml"])

    assert document["asyncapi"] == "3.0.0"
    for spec in TOPICS:
        channel = document["channels"][spec.name]
        assert channel["address"] == spec.name
        assert list(channel["messages"]) == spec.model.split()
        for action in ("send", "receive"):
            ours = {
                stage.name
                for stage in (kind.spec for kind in STAGES)
                if spec.name in (stage.writes if action == "send" else stage.reads)
            }
            types = {
                name.removesuffix(f"-{action}-{spec.name}")
                for name, operation in document["operations"].items()
                if operation["action"] == action
                and operation["channel"]["$ref"] == f"#/channels/{spec.name}"
            }
            assert types == ours


def test_the_asyncapi_document_names_every_topic_and_refers_to_nothing_that_is_not_there() -> None:
    document = yaml.safe_load(documents()["asyncapi.yaml"])

    assert set(document["channels"]) == {spec.name for spec in TOPICS}
    for ref in refs(document):
        if ref.startswith("./"):
            assert ref.removeprefix("./") in CONTRACTS
            continue
        node = document
        for step in ref.removeprefix("#/").split("/"):
            node = node[step]

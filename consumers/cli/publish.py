"""Generates the published documents: JSON Schemas of contracts and policy, and AsyncAPI 3.

It also generates three pages of the documentation: on the policy file, on settings and on topics.

Run as `make generate`, which is `python -m consumers.cli.publish [FOLDER]`.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from consumers import parties
from consumers.parties import readers_of, writers_of
from consumers.policy_reference import policy_page, policy_schema
from consumers.setting_list import setting_rows
from schemas.admission import Confirmation, Settlement, Tick
from schemas.attempt import Attempt, LedgerEntry
from schemas.base import Contract
from schemas.codec import dead_letter_headers
from schemas.dead_letter import DeadLetter, Pointer
from schemas.escalation import Assignment, Escalation
from schemas.feedback import Feedback
from schemas.money import Grant
from schemas.policy_log import PolicyAct, Release, Rollout
from schemas.reasons import Reason
from schemas.request import Request
from schemas.result import Result
from schemas.review import AuditLine
from schemas.status import Status
from schemas.topics import TOPICS, TopicSpec
from schemas.usage import Usage
from schemas.verdict import Verdict

__all__ = ["PAGES", "PUBLISHED", "documents", "main"]

#: The folder of the documents in the repository, and in the wheel.
PUBLISHED = Path(__file__).parents[2] / "schemas" / "published"
_DOCS = Path(__file__).parents[2] / "docs"
#: The texts of pages, around their tables.
_PAGES = Path(__file__).with_name("pages")

_CONTRACTS: Sequence[type[Contract]] = (
    *(Request, Assignment, Attempt, LedgerEntry, Verdict, Escalation, Result, DeadLetter, Usage),
    *(Feedback, Status, AuditLine, PolicyAct, Release, Rollout),
    *(Settlement, Grant, Confirmation, Tick),
)
#: Counts upwards when a contract breaks, which also gives the topics new names.
_MAJOR = 1
_DRAFT = "https://json-schema.org/draft/2020-12/schema"


def documents() -> Mapping[str, str]:
    """Every published document by its file name."""
    return {
        **{_file_name(contract): _json_schema(contract) for contract in _CONTRACTS},
        "routing-policy.json": _written("routing-policy", policy_schema()),
        "asyncapi.yaml": yaml.safe_dump(_asyncapi(), sort_keys=False, allow_unicode=True, width=96),
    }


def main() -> None:
    """Write the documents into a folder, by default to their places in the repository."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else PUBLISHED
    if folder == PUBLISHED:
        for page, written in PAGES.items():
            _ = page.write_text(written(), encoding="utf-8")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in documents().items():
        _ = (folder / name).write_text(text, encoding="utf-8")


def _settings_page() -> str:
    rows = ((f"`{row.variable}`", row.type, row.default, row.meaning) for row in setting_rows())
    return _page("settings.md", settings=rows)


def _topics_page() -> str:
    """Every topic, and every party that writes or reads one."""
    topics = (
        (f"`{spec.name}`", spec.holds, spec.key, _kept(spec), *_users_of(spec)) for spec in TOPICS
    )
    stages = (kind.spec for kind in parties.STAGES)
    users: list[tuple[str, Sequence[str], Sequence[str]]] = [
        (spec.name, spec.writes, (*spec.reads, *spec.consults)) for spec in stages
    ]
    users += [(party.name, party.writes, party.reads) for party in parties.PARTIES]
    rows = ((name, _listed(writes), _listed(reads)) for name, writes, reads in users)
    return _page("topics.md", topics=topics, parties=rows)


def _page(name: str, **tables: Iterable[Sequence[str]]) -> str:
    """A page of the documentation, with the rows of its tables."""
    written = {
        table: "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
        for table, rows in tables.items()
    }
    return (_PAGES / name).read_text("utf-8").format(**written)


def _users_of(spec: TopicSpec) -> tuple[str, str]:
    """Who writes to a topic, and who reads it."""
    return ", ".join(writers_of(spec.name)), ", ".join(readers_of(spec.name))


def _listed(topics: Sequence[str]) -> str:
    return ", ".join(f"`{topic}`" for topic in topics) or "nothing"


def _kept(spec: TopicSpec) -> str:
    if spec.config.get("cleanup.policy") == "compact":
        return "the latest of each key"
    kept = int(spec.config.get("retention.ms", "-1"))
    if kept < 0:
        return "for ever"
    hours = kept // 3_600_000
    return f"{hours // 24} days" if hours >= 48 else f"{hours} hours"


#: Pages of the documentation, and what makes them.
PAGES: Mapping[Path, Callable[[], str]] = {
    _DOCS / "policy.md": policy_page,
    _DOCS / "settings.md": _settings_page,
    _DOCS / "topics.md": _topics_page,
}


def _name_of(contract: type[Contract]) -> str:
    """The name of its document: `dead-letter` for `DeadLetter`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", contract.__name__).lower()


def _file_name(contract: type[Contract]) -> str:
    return f"{_name_of(contract)}.v{_MAJOR}.json"


def _json_schema(contract: type[Contract]) -> str:
    schema = contract.model_json_schema()
    if contract in (Assignment, Escalation):
        schema["properties"]["request"] = {
            "description": "The request as it came, byte for byte; always the last field."
        }
        schema["required"] += ["request_bytes", "request"]
    return _written(f"{_name_of(contract)}:v{_MAJOR}", schema)


def _written(name: str, schema: Mapping[str, Any]) -> str:
    head = {"$schema": _DRAFT, "$id": f"urn:tierline:{name}"}
    return json.dumps({**head, **schema}, indent=2, ensure_ascii=False) + "\n"


def _asyncapi() -> dict[str, Any]:
    by_name = {contract.__name__: contract for contract in _CONTRACTS}
    carried = dict.fromkeys(name for spec in TOPICS for name in spec.model.split())
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Tierline",
            "version": f"{_MAJOR}.0.0",
            "description": "Every topic, what it holds, and which stage writes and reads it.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {spec.name: _channel(spec) for spec in TOPICS},
        "operations": dict(_operations()),
        "components": {"messages": {name: _message(by_name[name]) for name in carried}},
    }


def _channel(spec: TopicSpec) -> dict[str, Any]:
    writers, readers = _users_of(spec)
    kept = {"retention.ms", "max.message.bytes"} & set(spec.config)
    return {
        "address": spec.name,
        "description": f"{spec.holds}. Key: {spec.key}. Written by {writers}; read by {readers}.",
        "messages": {
            name: {"$ref": f"#/components/messages/{name}"} for name in spec.model.split()
        },
        "bindings": {
            "kafka": {
                "topicConfiguration": {name: int(spec.config[name]) for name in sorted(kept)},
                "bindingVersion": "0.5.0",
            }
        },
    }


def _operations() -> Iterable[tuple[str, dict[str, Any]]]:
    """The operations of our stages; those of producers, reviewers and downstream mirror them."""
    for stage in (kind.spec for kind in parties.STAGES):
        for action, topics in (("send", stage.writes), ("receive", stage.reads)):
            for topic in topics:
                channel = {"$ref": f"#/channels/{topic}"}
                yield f"{stage.name}-{action}-{topic}", {"action": action, "channel": channel}


def _message(contract: type[Contract]) -> dict[str, Any]:
    name = contract.__name__
    described = {"name": name, "summary": (contract.__doc__ or name).strip().splitlines()[0]}
    key = {"kafka": {"key": {"type": "string"}, "bindingVersion": "0.5.0"}}
    if contract is not DeadLetter:
        return {**described, "payload": {"$ref": f"./{_file_name(contract)}"}, "bindings": key}

    return {
        **described,
        "headers": {
            "type": "object",
            "properties": {header: {"type": "string"} for header in _dead_letter_header_names()},
        },
        # Whatever the producer sent, which need not be JSON.
        "contentType": "application/octet-stream",
        "payload": {"description": "The original bytes, untouched."},
        "bindings": key,
    }


def _dead_letter_header_names() -> list[str]:
    """The names of all headers that the codec writes, for a letter with every field."""
    instant = datetime(2026, 1, 1, tzinfo=UTC)
    letter = DeadLetter(
        request_id="-",
        task="-",
        reason=Reason.NOT_JSON,
        detail="-",
        stage="route",
        source=Pointer(topic="-", partition=0, offset=0),
        failed_at=instant,
        deadline=instant,
        policy_version="-",
    )
    return [name for name, _ in dead_letter_headers(letter, ())]


if __name__ == "__main__":
    main()

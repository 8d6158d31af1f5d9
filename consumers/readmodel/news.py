"""What records say, as rows of the read model's tables."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from operator import itemgetter
from typing import Any

import orjson
import sqlalchemy as sa

from consumers.readmodel.columns import millis, stored
from consumers.readmodel.tables import FEEDBACK, OUTCOMES, REQUESTS
from consumers.records import Record, record_ref, told_at
from consumers.telemetry.redaction import redact
from router.intake.admission import Admission
from router.reports.quality import (
    Call,
    Group,
    call_of,
    end_of,
    group_id,
    group_of,
    route_of,
    surer,
    trend_of,
    user_group_of,
)
from schemas.admission import kind_of
from schemas.attempt import LedgerEntry, announces
from schemas.base import Tier
from schemas.codec import dump, read_dead_letter, read_model
from schemas.errors import ContractError
from schemas.feedback import Feedback
from schemas.intake import read_raw_request
from schemas.json_numbers import as_json
from schemas.request import Request
from schemas.result import Result
from schemas.review import AuditLine
from schemas.tenancy import DEFAULT_TENANT, is_reserved_id, is_reserved_tenant
from schemas.topics import Topics

__all__ = ["FIRST", "Key", "News", "Row", "key_of", "merged", "pseudonym"]

#: Characters of what people say, and of what customers ask, that are kept.
_MOST_WORDS, _MOST_ASKED = 500, 300
#: Of requests with one id the first on intake counts; brokers may give several one instant.
FIRST = ("appended_at", "partition", "offset", "topic")

Key = tuple[str, str]
Row = Mapping[str, Any]


@dataclass(slots=True)
class News:
    """The rows of some records by their keys: the last record counts."""

    admission: Admission
    requests: dict[tuple[Any, ...], Row] = field(default_factory=dict)
    records: dict[tuple[Any, ...], Row] = field(default_factory=dict)
    calls: dict[tuple[str, str, str, int], Call] = field(default_factory=dict)
    groups: dict[int, Group] = field(default_factory=dict)
    outcomes: dict[tuple[Any, ...], Row] = field(default_factory=dict)
    feedback: dict[tuple[Any, ...], Row] = field(default_factory=dict)
    reviews: dict[str, Row] = field(default_factory=dict)

    def readers(self, topics: Topics) -> Mapping[str, Callable[[Record], None]]:
        """The method for the records of each topic, which raises for one that is not ours."""
        return {
            **dict.fromkeys(topics.all_intakes, self._intake),
            **dict.fromkeys(map(topics.tier, Tier), partial(self._hop, route_of=_route_in)),
            topics.admission: self._admission,
            topics.escalations: self._hop,
            topics.attempts: self._call,
            topics.results: self._result,
            topics.dead_letters: self._letter,
            topics.feedback: self._feedback,
            topics.review: self._review,
        }

    def _note(self, record: Record, tenant: str, request_id: str, **route: str | None) -> None:
        """A record of a request lies here; `route` is what sent the request there."""
        row = {
            **dict.fromkeys(("rule", "release", "classified", "plan")),
            "request_id": stored(request_id),
            "tenant": stored(tenant),
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "at": millis(told_at(record)),
            **{name: text and stored(text, 200) for name, text in route.items()},
        }
        self.records[record.topic, record.partition, record.offset] = row

    def _intake(self, record: Record) -> None:
        """A request, filed under the tenant that intake files it under."""
        place = record_ref(record)
        try:
            request = read_raw_request(record.value, record.headers, fallback_id=place)
        except ContractError:
            return  # its dead letter says why
        tenant = request.tenant
        if self.admission.binds or is_reserved_tenant(tenant):
            written = record.value, record.headers, told_at(record)
            tenant = self.admission.tenant_of(record.topic, *written, is_parsed=True)
        if request.id != place and is_reserved_id(request.id):
            return
        self._note(record, tenant, request.id)
        row = {
            "request_id": request.id,
            "tenant": stored(tenant),
            "appended_at": millis(told_at(record)),
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "task": request.task,
            "plan": request.plan and stored(request.plan),
            "user": _masked(request.user),
            "conversation_id": _masked(request.conversation_id),
            "words": _masked(request.text) or "",
            "unit": unit_of(tenant, request),
        }
        key = key_of(REQUESTS, row)
        self.requests[key] = min(self.requests.get(key, row), row, key=itemgetter(*FIRST))

    def _hop(
        self, record: Record, route_of: Callable[[Any], Mapping[str, str | None]] = lambda _: {}
    ) -> None:
        """An envelope: whose it is, and for a tier why; each has all of the request."""
        envelope = orjson.loads(record.value or b"")
        tenant = str(envelope.get("tenant") or DEFAULT_TENANT)
        self._note(record, tenant, str(envelope["id"]), **route_of(envelope))

    def _admission(self, record: Record) -> None:
        if kind_of(record.headers) == "assignment":
            self._hop(record)

    def _call(self, record: Record) -> None:
        if announces(record.value):  # every second line: it says no more than where it lies
            line = orjson.loads(record.value or b"")
            self._note(record, str(line["tenant"]), str(line["request_id"]))
            return
        entry = read_model(LedgerEntry, record.value)
        self._note(record, entry.tenant, entry.request_id)
        group = Group._make(map(stored, group_of(entry)))
        by_user = user_group_of(group, pseudonym(entry.user))
        call = call_of(entry, group, by_user)
        call.detail = stored(call.detail)
        for each in (group, route_of(group), trend_of(group), by_user):
            self.groups[group_id(each)] = each
        key = call.tenant, call.request_id, call.attempt_id, call.started_at
        self.calls[key] = surer(self.calls.get(key), call)

    def _result(self, record: Record) -> None:
        result = read_model(Result, record.value)
        info = result.router
        self._note(record, info.tenant, result.id)
        if not info.final:
            return
        end = end_of(result)
        self._end(
            {
                "tenant": stored(info.tenant),
                "request_id": result.id,
                "generation": info.generation,
                "is_result": True,
                "ended_at": millis(told_at(record)),
                "letter": info.resolves and stored(info.resolves, 480),
                "published": end.published and stored(end.published),
                "kind": info.kind,
                "total_us": end.total_us,
                "task": stored(info.task),
                "model": stored(info.model),
                "review": info.review,
                "output": as_json(info.output).decode(),
            }
        )

    def _letter(self, record: Record) -> None:
        letter = read_dead_letter(record.headers)
        self._note(record, letter.tenant, letter.request_id or str(letter.source))
        if letter.request_id is None:
            return
        self._end(
            {
                **dict.fromkeys(("published", "kind", "total_us", "model", "review", "output")),
                "tenant": stored(letter.tenant),
                "request_id": stored(letter.request_id),
                "generation": letter.generation,
                "is_result": False,
                "ended_at": millis(told_at(record)),
                "letter": stored(record_ref(record), 480),
                "task": letter.task and stored(letter.task),
            }
        )

    def _end(self, row: Row) -> None:
        self.outcomes[key_of(OUTCOMES, row)] = row

    def _feedback(self, record: Record) -> None:
        feedback = read_model(Feedback, record.value)
        self._note(record, feedback.tenant, feedback.request_id)
        instead = dump(feedback.correction).decode() if feedback.correction else ""
        words = "; instead: ".join(text for text in (feedback.comment, instead) if text)
        row = {
            "tenant": feedback.tenant,
            "request_id": feedback.request_id,
            "generation": feedback.generation,
            "kind": feedback.kind,
            "at": millis(feedback.at),
            "words": stored(words, _MOST_WORDS),
        }
        key = key_of(FEEDBACK, row)
        self.feedback[key] = merged(self.feedback.get(key), row)

    def _review(self, record: Record) -> None:
        line = read_model(AuditLine, record.value)
        if line.tenant is not None and line.request_id is not None:
            self._note(record, line.tenant, line.request_id)
        if (decision := line.decision) is None:
            return
        self.reviews[decision.decision_id] = {
            "decision_id": decision.decision_id,
            "letter": stored(str(decision.letter), 480),
            "action": decision.action,
            "who": line.who,
            "at": millis(line.at),
            "is_example": decision.is_example,
            "tenant": stored(decision.tenant or line.tenant or DEFAULT_TENANT),
            "request_id": decision.request_id,
            "generation": decision.generation,
            "seconds": None if decision.seconds_spent is None else round(decision.seconds_spent),
        }

    def judged(self) -> set[Key]:
        """The requests whose calls are judged again."""
        decided = {(row["tenant"], row["request_id"]) for row in self.reviews.values()}
        others = (self.calls, self.outcomes, self.feedback)
        return decided | {key[:2] for rows in others for key in rows}


def _route_in(envelope: Any) -> Mapping[str, str | None]:
    """The last route of an envelope, what the classify step had said, and the plan that counts."""
    route, classified = envelope["routes"][-1], envelope.get("classification")
    return {
        "rule": str(route["rule"]),
        "release": route.get("policy_digest") and str(route["policy_digest"]),
        "classified": classified and orjson.dumps(classified).decode(),
        "plan": envelope.get("plan") and str(envelope["plan"]),
    }


def unit_of(tenant: str, request: Request) -> int:
    """A number for a request's conversation, or for the request itself."""
    named = f"{tenant}\0{request.conversation_id or request.id}".encode()
    return int.from_bytes(hashlib.blake2b(named, digest_size=8).digest(), "big", signed=True)


@lru_cache(maxsize=1 << 16)
def pseudonym(user: str | None) -> str | None:
    """A user's id as figures show it: masked, with a number that tells apart what looks alike."""
    shown = _masked(user)
    if not user or shown == user:
        return shown
    number = hashlib.blake2b(user.encode("utf-8", "surrogatepass"), digest_size=4)
    return f"{shown}-{number.hexdigest()}"


def _masked(text: str | None) -> str | None:
    """The beginning of a text, cut after it is masked: a number that is cut would not look so."""
    return text and stored(redact(text[: 2 * _MOST_ASKED]), _MOST_ASKED)


def merged(former: Row | None, row: Row) -> Row:
    """Feedback of one kind, given twice: its first time and its last words."""
    if former is None:
        return row
    at = min(former["at"], row["at"])
    return {**row, "at": at, "words": row["words"] or former["words"]}


def key_of(table: sa.Table, row: Row) -> tuple[Any, ...]:
    return tuple(row[column.name] for column in table.primary_key)

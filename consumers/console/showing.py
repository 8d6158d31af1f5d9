"""The values that a case's page shows, computed for the template."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from consumers.console.errors import ImpossibleError
from consumers.console.review_service import decision_of
from consumers.console.rows import Case, LetterRecord, readable, request_of
from router.checks import Asked
from router.judge.judging import OutputContract, output_contract
from router.policy.table import Policy
from router.reply.worddiff import Piece, word_diff
from router.review.cases import why
from router.review.decisions import answers_of, hash_of_answers, price_at, refusal_of
from router.review.marking import Part, failing_parts, marked
from schemas.attempt import Attempt
from schemas.base import Tier
from schemas.codec import text_headers
from schemas.dead_letter import DeadLetter
from schemas.errors import ContractError
from schemas.json_numbers import as_json, loses_digits
from schemas.json_text import parse_json, read_json
from schemas.request import Request

__all__ = [
    "TOO_MANY_DIGITS",
    "CaseView",
    "Shown",
    "ago",
    "attempt_views",
    "case_view",
    "contract_of",
    "dollars",
    "hidden",
    "messages_of",
    "pretty",
    "read_output",
    "read_value",
    "sources_of",
    "written",
]

#: Characters that a page shows of one text; all of it can be downloaded.
_MOST_SHOWN = 20_000
#: An error in an edited answer: JSON numbers are published with limited precision.
TOO_MANY_DIGITS = "a number has more digits than can be published; write it as text"
_OUR_NUMBERS = ("tierline-offset", "tierline-timestamp", "__connect.errors.offset")


@dataclass(frozen=True, slots=True)
class Shown:
    """A text on a page."""

    text: str
    #: The length of the whole text, where it is cut.
    cut_from: int | None = None
    #: Parts of it that failed a check.
    failing: Collection[str] = ()

    @property
    def parts(self) -> Sequence[Part]:
        """The text in pieces, some of which are marked."""
        return marked(self.text, self.failing)

    @classmethod
    def of(cls, text: str, hide: Callable[[str], str], failing: Collection[str] = ()) -> "Shown":
        """A text, masked before it is cut: part of a number would not be recognised."""
        length = len(text)
        masked = hide(text[: 2 * _MOST_SHOWN])[:_MOST_SHOWN]
        return cls(masked, length if length > _MOST_SHOWN else None, failing)


@dataclass(frozen=True, slots=True)
class AttemptView:
    """One attempt beside the others."""

    attempt: Attempt
    #: The number that chooses it; None where it has no answer to approve.
    choice: int | None
    answer: Shown
    #: The whole reply, as in `response.body`, where it says more than the answer.
    reply: Shown | None
    #: The difference from the previous answer; None for the first.
    diff: Sequence[Piece] | None
    #: The checks that it failed, and why.
    failed: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class CaseView:
    """One case on one screen."""

    case: Case
    why: Sequence[str]
    #: What the customer says; None where the request cannot be read.
    question: Shown | None
    #: Other messages of the request, by role.
    messages: Sequence[tuple[str, Shown]]
    #: What an answer may be based on, by name.
    sources: Sequence[tuple[str, Shown]]
    #: The fields of the answer that waits, by name; none where there is no answer.
    answer: Sequence[tuple[str, Shown]]
    #: The attempt that gave it.
    proposal: AttemptView | None
    #: Fields of the request worth showing, by name.
    facts: Mapping[str, str]
    attempts: Sequence[AttemptView]
    #: The last answer that any attempt gave, as it is; None where none did.
    output: Mapping[str, Any] | None
    #: The format of an answer; None where the request or its schema cannot be used.
    contract: OutputContract | None
    #: The answers that can be approved, as one hash.
    answers: str
    #: The tiers for a retry, with the price of a call in micro-dollars.
    tiers: Sequence[tuple[Tier, int]]
    #: Why it cannot be sent through again; None when it can.
    no_requeue: str | None
    is_readable: bool
    trace_id: str | None
    raw: Shown
    headers: Sequence[tuple[str, str]]


def case_view(
    case: Case,
    record: LetterRecord,
    policy: Policy,
    now: datetime,
    hide: Callable[[str], str] = str,
) -> CaseView:
    """The values of a case's page; `hide` masks every text of others."""
    letter, request = record.letter, request_of(record)
    choices = {attempt.attempt_id for attempt in answers_of(letter)}

    asked = Asked(request) if request else None

    def failing(attempt: Attempt) -> Collection[str]:
        return failing_parts(attempt, asked, policy, letter.task) if asked else ()

    attempts = attempt_views(letter.attempts, choices, hide, failing)
    proposal = next((item for item in reversed(attempts) if item.choice), None)
    parts = proposal.answer.failing if proposal else ()
    names = ("plan", "user", "workflow", "tenant", "conversation_id", "blast_radius")
    facts = {name: value for name in names if (value := getattr(request, name, None))}
    outputs = [a.verdict.output for a in letter.attempts if a.verdict and a.verdict.output]
    return CaseView(
        case=case,
        why=[hide(words) for words in why(letter, policy, now)],
        question=Shown.of(request.text, hide) if request else None,
        messages=messages_of(request, hide) if request else (),
        sources=sources_of(request, hide, parts) if request else (),
        answer=_fields_of(proposal.attempt, hide, parts) if proposal else [],
        proposal=proposal,
        facts={name: hide(str(value)) for name, value in facts.items()},
        attempts=attempts,
        output=outputs[-1] if outputs else None,
        contract=contract_of(request, letter, policy),
        answers=hash_of_answers(letter),
        tiers=[(tier, price_at(letter, tier, policy)) for tier in policy.tiers],
        no_requeue=_no_requeue(case, letter, policy),
        is_readable=request is not None,
        trace_id=_trace_id(record),
        raw=Shown.of(_raw(record.value, hide), hide),
        headers=[(name, _header(name, value, hide)) for name, value in record.headers],
    )


def messages_of(request: Request, hide: Callable[[str], str]) -> list[tuple[str, Shown]]:
    """The messages of a request besides what the customer says, by role."""
    others = [message for message in request.messages if message.role != "user"]
    return [(message.role, Shown.of(message.text, hide)) for message in others]


def sources_of(
    request: Request, hide: Callable[[str], str], failing: Collection[str] = ()
) -> list[tuple[str, Shown]]:
    """What stands beside a request's messages, by name."""
    parts = request.context.model_dump(exclude_none=True)
    shown = {name: written(part) for name, part in parts.items() if part}
    return [(name, Shown.of(text, hide, failing)) for name, text in shown.items()]


def contract_of(
    request: Request | None, letter: DeadLetter, policy: Policy
) -> OutputContract | None:
    """The format of an answer to a case; None where there is none that can be used."""
    try:
        return output_contract(request, policy, letter.task, "answer") if request else None
    except ContractError:
        return None


def read_output(text: str) -> tuple[dict[str, Any] | None, str]:
    """An edited answer, or why it cannot be published."""
    value, words = read_value(text)
    if words:
        return None, words
    return (value, "") if isinstance(value, dict) else (None, "a JSON object was expected")


def read_value(text: str) -> tuple[Any, str]:
    """A value that somebody wrote as JSON, or why it cannot be published."""
    try:
        raw = text.encode("utf-8")
        value = parse_json(raw)
    except UnicodeEncodeError:
        return None, "not valid JSON: it contains half of a surrogate pair"
    except ContractError as error:
        return None, f"not JSON that can be published as it is written: {error.detail}"
    return (None, TOO_MANY_DIGITS) if loses_digits(raw) else (value, "")


def dollars(micros: int) -> str:
    """An amount of micro-dollars, without exponents and needless zeros."""
    return f"${micros / 1e6:.6f}".rstrip("0").ljust(4, "0") if micros else "$0"


def ago(then: datetime, now: datetime) -> str:
    """How long ago, or how soon, in the largest unit that fits."""
    seconds = (now - then).total_seconds()
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if abs(seconds) >= length:
            words = f"{int(abs(seconds) // length)} {unit}"
            break
    else:
        words = f"{int(abs(seconds))} s"
    return f"in {words}" if seconds < 0 else f"{words} ago"


def hidden(value: Any, hide: Callable[[str], str]) -> Any:
    """The texts in a value as others may see them."""
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, Mapping):
        return {hide(name): hidden(part, hide) for name, part in value.items()}
    return [hidden(part, hide) for part in value] if isinstance(value, (list, tuple)) else value


def attempt_views(
    attempts: Sequence[Attempt],
    with_answer: set[str],
    hide: Callable[[str], str],
    failing: Callable[[Attempt], Collection[str]] = lambda _: (),
) -> list[AttemptView]:
    """Attempts side by side; those `with_answer` can be approved. `failing` parts are marked."""
    views: list[AttemptView] = []
    before: str | None = None
    choice = 0
    for attempt in attempts:
        answer = Shown.of(_answer(attempt), hide, failing(attempt))
        text = answer.text
        has_choice = attempt.attempt_id in with_answer
        choice += has_choice
        diff = None
        if text and before is not None and attempt.step == "answer":
            diff = word_diff(before, text)
        results = attempt.verdict.checks if attempt.verdict else ()
        failed = [(check.check, hide(check.detail)) for check in results if not check.passed]
        if not failed and attempt.outcome == "failed":
            failed = [(attempt.reason.value if attempt.reason else "failed", hide(attempt.detail))]
        number = choice if has_choice else None
        whole = attempt.reply if has_choice and _says_more(attempt) else None
        reply = Shown.of(whole, hide) if whole else None
        views.append(AttemptView(attempt, number, answer, reply, diff, failed))
        before = text if text and attempt.step == "answer" else before
    return views


def _fields_of(
    attempt: Attempt, hide: Callable[[str], str], failing: Collection[str]
) -> list[tuple[str, Shown]]:
    """The fields of an answer in words, without the model's confidence."""
    answered = attempt.answered
    fields = {"answer": answered or ""} if not isinstance(answered, Mapping) else answered
    return [
        (hide(name), Shown.of(written(value), hide, failing))
        for name, value in fields.items()
        if name != "confidence"
    ]


def _answer(attempt: Attempt) -> str:
    output = attempt.verdict.output if attempt.verdict else None
    if output is not None:
        return pretty(output)
    return attempt.reply or ""


def _says_more(attempt: Attempt) -> bool:
    """True where a reply is more than its answer, such as prose around the JSON."""
    output, reply = attempt.verdict.output if attempt.verdict else None, attempt.reply or ""
    if output is None or output == {"answer": reply}:
        return False
    return bool(read_json(reply.encode("utf-8", "replace")) != output)


def _no_requeue(case: Case, letter: DeadLetter, policy: Policy) -> str | None:
    """Why a case cannot be sent through again; None when it can."""
    try:
        requeue = decision_of(case, letter, "requeue", decision_id="-")
    except ImpossibleError as error:  # a forged id, for example
        return str(error)
    return refusal_of(requeue, letter, policy)


def written(value: Any) -> str:
    """A text as it is, everything else as JSON."""
    return value if isinstance(value, str) else pretty(value)


def pretty(value: Any) -> str:
    """A value as JSON in lines."""
    return as_json(value, orjson.OPT_INDENT_2).decode()


def _raw(value: bytes | None, hide: Callable[[str], str]) -> str:
    """A record's value as text; in readable form where it is masked."""
    plain = (value or b"").decode("utf-8", "backslashreplace")
    return plain if hide is str else readable(value)


def _header(name: str, value: bytes, hide: Callable[[str], str]) -> str:
    text = value.decode("utf-8", "replace")[:2000]
    # Our own instants and offsets have as many digits as a card number.
    return text if name in _OUR_NUMBERS and text.isdecimal() else hide(text)


def _trace_id(record: LetterRecord) -> str | None:
    parts = text_headers(record.headers).get("traceparent", "").split("-")
    return parts[1] if len(parts) == 4 else None

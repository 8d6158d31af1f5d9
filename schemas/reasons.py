"""Why a request moved: the closed list of reason codes, each with its meaning in words."""

from enum import StrEnum
from typing import Literal

__all__ = ["Reason"]

#: `hop`: only passes a request on. `unreadable`: the record could not be parsed. `refused`: intake
#: did not accept the identity that the producer claims. `person`: the policy itself wants a person.
_Group = Literal["hop", "unreadable", "refused", "person"]


class Reason(StrEnum):
    """A reason code, shown with every escalation, hop and dead letter."""

    #: One sentence for people: what happened.
    meaning: str
    group: _Group | None

    def __new__(cls, code: str, meaning: str = "", group: _Group | None = None) -> "Reason":
        reason = str.__new__(cls, code)
        reason._value_ = code
        reason.meaning = meaning
        reason.group = group
        return reason

    # An answer that could not be defended: the request climbs.
    LOW_CONFIDENCE = "low_confidence", "the model was less sure of its answer than the tier demands"
    SCHEMA_FAILED = (
        "schema_validation_failure",
        "the answer does not have the fields that the task's format asks for",
    )
    REFUSED = "refusal", "the model refused to answer"
    EMPTY = "empty_reply", "the model answered with nothing"
    CUT_OFF = "cut_off", "the answer was cut off before its end"
    WRONG_LENGTH = "wrong_length", "the answer is shorter or longer than the task allows"
    WRONG_LANGUAGE = "wrong_language", "the answer is in another language than was asked for"
    UNSUPPORTED_CLAIMS = "unsupported_claim_density", "too much of the answer is not in its sources"
    UNRESOLVED_ENTITIES = (
        "too_many_unresolved_entities",
        "the answer names things that its sources do not know",
    )
    CONFLICTING_EVIDENCE = (
        "conflicting_retrieved_evidence",
        "the sources contradict each other and the answer does not say so",
    )
    NUMBERS_DISAGREE = "numbers_disagree", "numbers in the answer are not those of its sources"
    REQUIRED_MISSING = "required_content_missing", "the answer leaves out what it must contain"
    FORBIDDEN_FOUND = "forbidden_content_found", "the answer contains what it must not"
    TOOL_CALL_BROKEN = "tool_call_broken", "a tool call does not match the tool's own definition"
    MODELS_DISAGREE = "models_disagree", "several answers to the same question do not agree"
    VERIFIER_REJECTED = "verifier_rejected", "another model read the answer and found it wrong"
    CONTEXT_OVERFLOW = "context_overflow", "the request is longer than the model can read"
    CLASSIFIED = "classified", "the low tier said what kind of request this is", "hop"
    REQUEUED = "requeued", "a person sent the request through again", "hop"
    ASKED_BY_CONSOLE = "asked_by_console", "the console asked for a brief of a case", "hop"
    POLICY_REPLACED = (
        "policy_replaced",
        "the policy it was routed under is no longer applied",
        "hop",
    )

    # Why the tier is not the task's own, beside low confidence: the kinds of fallback.
    PLAN = "plan", "the customer's plan sets the tier"
    COMPLEXITY = "task_complexity", "the request is harder or easier than its task mostly is"
    LONG_CONTEXT = "long_context", "the request needs a model with a larger window"
    RULE = "rule", "a rule of the policy sets the tier"
    FAILED_VALIDATION = "failed_validation", "the answer failed a check"
    OVERFLOW = (
        "overflow",
        "the tier could not take it in time, and the task has another tier for that",
        "hop",
    )

    BUDGET = "budget", "a cap of the policy leaves no money for it"
    RESERVATION_USED = (
        "reservation_used",
        "what was set aside for it does not cover its next call",
        "hop",
    )

    # A call that gave no usable reply: the same tier goes on.
    NOT_SENT = "not_sent", "the call never reached the provider"
    THROTTLED = "throttled", "the provider asked us to wait"
    PROVIDER_ERROR = "provider_error", "the provider failed while answering"
    PROVIDER_REJECTED = "provider_rejected", "the provider does not accept this call"
    OUTCOME_UNKNOWN = "outcome_unknown", "the call was sent and nobody knows whether it ran"
    UNREADABLE_REPLY = "unreadable_reply", "the provider's reply is not in its own format"

    # The machine gave up: a person decides.
    NO_TIER_LEFT = "no_tier_left", "no tier on the task's path could defend an answer"
    NO_MODEL_TAKES_IT = (
        "no_model_takes_it",
        "no model on the task's path can take what the request holds",
    )
    NOT_WORTH_CLIMBING = (
        "not_worth_climbing",
        "a dearer model costs more than it saves, or as many requests have climbed as may",
    )
    ATTEMPTS_EXHAUSTED = (
        "attempts_exhausted",
        "the request has used all the attempts the policy allows",
    )
    PROVIDER_UNAVAILABLE = "provider_unavailable", "no model of the tier could be reached"
    DEADLINE_PASSED = "deadline_passed", "the deadline passed before an answer was ready"
    DEADLINE_UNREACHABLE = (
        "deadline_unreachable",
        "at the present rate its turn would come after the deadline",
    )
    APPROVAL_REQUIRED = (
        "approval_required",
        "the task's policy wants a person to approve this answer",
        "person",
    )
    PERSON_FIRST = (
        "person_first",
        "the policy wants a person to have this request before any model",
        "person",
    )
    NOT_CONFIRMED = "not_confirmed", "nobody agreed to its price in time"
    TOO_MANY_HELD = "too_many_held", "as many requests wait for money as may"
    RESULT_TOO_LARGE = "result_too_large", "the result is larger than the results topic takes"

    # The record broke the contract: no call was made.
    NULL_VALUE = "null_value", "the record has no value", "unreadable"
    NOT_TEXT = "not_text", "the value is not UTF-8 text", "unreadable"
    NOT_JSON = "not_json", "the value is not JSON", "unreadable"
    TOO_LARGE = "too_large", "the value is larger than a request may be", "unreadable"
    TOO_DEEP = "too_deep", "the JSON is nested too deeply", "unreadable"
    DUPLICATE_KEY = "duplicate_key", "a JSON object names the same key twice", "unreadable"
    BAD_NUMBER = (
        "bad_number",
        "the JSON holds a number that is not finite or too long",
        "unreadable",
    )
    MISSING_FIELD = "missing_field", "a required field is missing"
    INVALID_FIELD = "invalid_field", "a field does not hold what it should"
    EMPTY_INPUT = "empty_input", "the input holds no text"
    NEWER_VERSION = "newer_version", "the record was written by a newer version of the contract"
    UNKNOWN_TASK = "unknown_task", "the policy has no such task"
    CONTEXT_TOO_LONG = (
        "context_too_long",
        "the context is longer than the plan and the models allow",
    )
    UNSUPPORTED_CHOICES = "unsupported_choices", "more than one choice per request is not supported"
    UNSUPPORTED_URL = "unsupported_url", "this Batch endpoint is not supported"
    UNSUPPORTED_PART = "unsupported_part", "only text content is supported"
    UNSUPPORTED_SCHEMA = (
        "unsupported_schema",
        "a JSON Schema of the request is beyond what may be validated",
    )
    UNREADABLE_RECORD = (
        "unreadable_record",
        "the client library cannot read this record",
        "unreadable",
    )
    POISONOUS_RECORD = (
        "poisonous_record",
        "processes ended or hung each time they handled this record",
    )
    ID_REUSED = "id_reused", "another request with another body has the same id"
    RESERVED_NAME = (
        "reserved_name",
        "the id or the tenant is a name that only the product gives out",
        "refused",
    )
    NOT_PROVEN = (
        "not_proven",
        "the producer claims a tenant or a plan that has to be proven",
        "refused",
    )
    BAD_SIGNATURE = "bad_signature", "the record's signature does not hold", "refused"
    IDENTITY_MISMATCH = (
        "identity_mismatch",
        "the record claims another tenant, plan or id than is proven",
        "refused",
    )
    INTERNAL_ERROR = (
        "internal_error",
        "a fault of ours; please report it with the logs of that moment",
    )

    @property
    def is_hop(self) -> bool:
        """True for a reason that only passes a request on: no answer was rejected."""
        return self.group == "hop"

    @property
    def wants_person(self) -> bool:
        """True where nothing has failed: the policy itself wants a person."""
        return self.group == "person"

    @property
    def fallback(self) -> "Reason":
        """The kind of fallback that an escalation for this reason is: a code to count by."""
        if self in _VALIDATION:
            return Reason.FAILED_VALIDATION
        if self is Reason.CONTEXT_OVERFLOW:
            return Reason.LONG_CONTEXT
        return Reason.PROVIDER_UNAVAILABLE if self in _UNAVAILABLE else self

    @property
    def is_unreadable(self) -> bool:
        """True when the record could not be parsed, so that no retry can help."""
        return self.group == "unreadable"

    @property
    def is_refused(self) -> bool:
        """True when intake did not accept the identity that the producer claims."""
        return self.group == "refused"


#: An answer failed a check, other than that of its confidence.
_VALIDATION = frozenset((
    Reason.SCHEMA_FAILED, Reason.EMPTY, Reason.CUT_OFF, Reason.WRONG_LENGTH, Reason.WRONG_LANGUAGE,
    Reason.UNSUPPORTED_CLAIMS, Reason.UNRESOLVED_ENTITIES, Reason.CONFLICTING_EVIDENCE,
    Reason.NUMBERS_DISAGREE, Reason.REQUIRED_MISSING, Reason.FORBIDDEN_FOUND,
    Reason.TOOL_CALL_BROKEN, Reason.MODELS_DISAGREE, Reason.VERIFIER_REJECTED,
))  # fmt: skip
#: A call gave no usable reply.
_UNAVAILABLE = frozenset((
    Reason.NOT_SENT, Reason.THROTTLED, Reason.PROVIDER_ERROR, Reason.PROVIDER_REJECTED,
    Reason.OUTCOME_UNKNOWN, Reason.UNREADABLE_REPLY,
))  # fmt: skip

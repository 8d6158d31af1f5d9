"""Why a request moved: the closed list of reason codes, each with its meaning in words."""

from enum import StrEnum

__all__ = ["Reason"]


class Reason(StrEnum):
    """A reason code. It stands wherever an escalation, a hop or a dead letter is shown."""

    # An answer that could not be defended: the request climbs.
    LOW_CONFIDENCE = "low_confidence"
    SCHEMA_FAILED = "schema_validation_failure"
    REFUSED = "refusal"
    EMPTY = "empty_reply"
    CUT_OFF = "cut_off"
    WRONG_LENGTH = "wrong_length"
    WRONG_LANGUAGE = "wrong_language"
    UNSUPPORTED_CLAIMS = "unsupported_claim_density"
    UNRESOLVED_ENTITIES = "too_many_unresolved_entities"
    CONFLICTING_EVIDENCE = "conflicting_retrieved_evidence"
    NUMBERS_DISAGREE = "numbers_disagree"
    REQUIRED_MISSING = "required_content_missing"
    FORBIDDEN_FOUND = "forbidden_content_found"
    TOOL_CALL_BROKEN = "tool_call_broken"
    MODELS_DISAGREE = "models_disagree"
    VERIFIER_REJECTED = "verifier_rejected"
    CONTEXT_OVERFLOW = "context_overflow"
    CLASSIFIED = "classified"
    REQUEUED = "requeued"
    ASKED_BY_CONSOLE = "asked_by_console"
    POLICY_REPLACED = "policy_replaced"

    # A call that gave no usable reply: the same tier goes on.
    NOT_SENT = "not_sent"
    THROTTLED = "throttled"
    PROVIDER_ERROR = "provider_error"
    PROVIDER_REJECTED = "provider_rejected"
    OUTCOME_UNKNOWN = "outcome_unknown"
    UNREADABLE_REPLY = "unreadable_reply"

    # The machine gave up: a person decides.
    NO_TIER_LEFT = "no_tier_left"
    NO_MODEL_TAKES_IT = "no_model_takes_it"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    DEADLINE_PASSED = "deadline_passed"
    DEADLINE_UNREACHABLE = "deadline_unreachable"
    APPROVAL_REQUIRED = "approval_required"
    RESULT_TOO_LARGE = "result_too_large"

    # The record broke the contract: no call was made.
    NULL_VALUE = "null_value"
    NOT_TEXT = "not_text"
    NOT_JSON = "not_json"
    TOO_LARGE = "too_large"
    TOO_DEEP = "too_deep"
    DUPLICATE_KEY = "duplicate_key"
    BAD_NUMBER = "bad_number"
    MISSING_FIELD = "missing_field"
    INVALID_FIELD = "invalid_field"
    EMPTY_INPUT = "empty_input"
    NEWER_VERSION = "newer_version"
    UNKNOWN_TASK = "unknown_task"
    CONTEXT_TOO_LONG = "context_too_long"
    UNSUPPORTED_CHOICES = "unsupported_choices"
    UNSUPPORTED_URL = "unsupported_url"
    UNSUPPORTED_PART = "unsupported_part"
    UNSUPPORTED_SCHEMA = "unsupported_schema"
    UNREADABLE_RECORD = "unreadable_record"
    POISONOUS_RECORD = "poisonous_record"
    ID_REUSED = "id_reused"
    RESERVED_NAME = "reserved_name"
    NOT_PROVEN = "not_proven"
    BAD_SIGNATURE = "bad_signature"
    IDENTITY_MISMATCH = "identity_mismatch"
    INTERNAL_ERROR = "internal_error"

    @property
    def meaning(self) -> str:
        """One sentence for people: what happened."""
        return _MEANING[self]

    @property
    def is_hop(self) -> bool:
        """True for a reason that only passes a request on and says nothing against an answer."""
        return self in _HOPS

    @property
    def is_unreadable(self) -> bool:
        """True when the record could not even be parsed, so that no other try can help it."""
        return self in _UNREADABLE

    @property
    def is_refused(self) -> bool:
        """True when intake did not believe who the producer said it was: no request of its own."""
        return self in _REFUSED


_HOPS = frozenset(
    (
        Reason.CLASSIFIED,
        Reason.REQUEUED,
        Reason.ASKED_BY_CONSOLE,
        Reason.POLICY_REPLACED,
    )
)

_UNREADABLE = frozenset(
    (
        Reason.NULL_VALUE,
        Reason.NOT_TEXT,
        Reason.NOT_JSON,
        Reason.TOO_LARGE,
        Reason.TOO_DEEP,
        Reason.DUPLICATE_KEY,
        Reason.BAD_NUMBER,
        Reason.UNREADABLE_RECORD,
    )
)

_REFUSED = frozenset(
    (
        Reason.RESERVED_NAME,
        Reason.NOT_PROVEN,
        Reason.BAD_SIGNATURE,
        Reason.IDENTITY_MISMATCH,
    )
)

_MEANING = {
    Reason.LOW_CONFIDENCE: "the model was less sure of its answer than the tier demands",
    Reason.SCHEMA_FAILED: "the answer does not have the fields that the task's format asks for",
    Reason.REFUSED: "the model refused to answer",
    Reason.EMPTY: "the model answered with nothing",
    Reason.CUT_OFF: "the answer was cut off before its end",
    Reason.WRONG_LENGTH: "the answer is shorter or longer than the task allows",
    Reason.WRONG_LANGUAGE: "the answer is in another language than was asked for",
    Reason.UNSUPPORTED_CLAIMS: "too much of the answer is not in its sources",
    Reason.UNRESOLVED_ENTITIES: "the answer names things that its sources do not know",
    Reason.CONFLICTING_EVIDENCE: "the sources contradict each other and the answer does not say so",
    Reason.NUMBERS_DISAGREE: "numbers in the answer are not those of its sources",
    Reason.REQUIRED_MISSING: "the answer leaves out what it must contain",
    Reason.FORBIDDEN_FOUND: "the answer contains what it must not",
    Reason.TOOL_CALL_BROKEN: "a tool call does not match the tool's own definition",
    Reason.MODELS_DISAGREE: "several answers to the same question do not agree",
    Reason.VERIFIER_REJECTED: "another model read the answer and found it wrong",
    Reason.CONTEXT_OVERFLOW: "the request is longer than the model can read",
    Reason.CLASSIFIED: "the low tier said what kind of request this is",
    Reason.REQUEUED: "a person sent the request through again",
    Reason.ASKED_BY_CONSOLE: "the console asked for a brief of a case",
    Reason.POLICY_REPLACED: "the policy it was routed under is applied no more",
    Reason.NOT_SENT: "the call never reached the provider",
    Reason.THROTTLED: "the provider asked us to wait",
    Reason.PROVIDER_ERROR: "the provider failed while answering",
    Reason.PROVIDER_REJECTED: "the provider does not accept this call",
    Reason.OUTCOME_UNKNOWN: "the call was sent and nobody knows whether it ran",
    Reason.UNREADABLE_REPLY: "the provider's reply is not in its own format",
    Reason.NO_TIER_LEFT: "no tier on the task's path could defend an answer",
    Reason.NO_MODEL_TAKES_IT: "no model on the task's path can take what the request holds",
    Reason.ATTEMPTS_EXHAUSTED: "the request has used all the attempts the policy allows",
    Reason.PROVIDER_UNAVAILABLE: "no model of the tier could be reached",
    Reason.DEADLINE_PASSED: "the deadline passed before an answer was ready",
    Reason.DEADLINE_UNREACHABLE: "at the present rate its turn would come after the deadline",
    Reason.APPROVAL_REQUIRED: "the task's policy wants a person to approve this answer",
    Reason.RESULT_TOO_LARGE: "the result is larger than the results topic takes",
    Reason.ID_REUSED: "another request with another body has the same id",
    Reason.RESERVED_NAME: "the id or the tenant is a name that only the product gives out",
    Reason.NOT_PROVEN: "the producer claims a tenant or a plan that has to be proven",
    Reason.BAD_SIGNATURE: "the record's signature does not hold",
    Reason.IDENTITY_MISMATCH: "the record claims another tenant, plan or id than is proven",
    Reason.NULL_VALUE: "the record has no value",
    Reason.NOT_TEXT: "the value is not UTF-8 text",
    Reason.NOT_JSON: "the value is not JSON",
    Reason.TOO_LARGE: "the value is larger than a request may be",
    Reason.TOO_DEEP: "the JSON is nested too deeply",
    Reason.DUPLICATE_KEY: "a JSON object names the same key twice",
    Reason.BAD_NUMBER: "the JSON holds a number that is not finite or too long",
    Reason.MISSING_FIELD: "a required field is missing",
    Reason.INVALID_FIELD: "a field does not hold what it should",
    Reason.EMPTY_INPUT: "the input holds no text",
    Reason.NEWER_VERSION: "the record was written by a newer version of the contract",
    Reason.UNKNOWN_TASK: "the policy has no such task",
    Reason.CONTEXT_TOO_LONG: "the context is longer than the plan and the models allow",
    Reason.UNSUPPORTED_CHOICES: "more than one choice per request is not supported",
    Reason.UNSUPPORTED_URL: "this Batch endpoint is not supported",
    Reason.UNSUPPORTED_PART: "only text content is supported",
    Reason.UNSUPPORTED_SCHEMA: "a JSON Schema of the request is beyond what may be validated",
    Reason.UNREADABLE_RECORD: "the client library cannot read this record",
    Reason.POISONOUS_RECORD: "processes ended or hung each time they handled this record",
    Reason.INTERNAL_ERROR: "a fault of ours; please report it with the logs of that moment",
}

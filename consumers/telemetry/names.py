"""Every name that leaves this process in a span or a metric, and the question each metric answers.

Messaging names follow the OpenTelemetry semantic conventions 1.44, GenAI names 1.41, their last
numbered release; newer GenAI names are used where `OTEL_SEMCONV_STABILITY_OPT_IN` lists
`gen_ai_latest_experimental`. Both are in development, so they are here and nowhere else. The cost
attributes follow an open proposal and are experimental.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["METRICS", "GenAiNames", "Metric", "gen_ai_names"]

# ----- spans: messaging

SYSTEM = "messaging.system"
OPERATION_TYPE = "messaging.operation.type"
OPERATION_NAME = "messaging.operation.name"
DESTINATION = "messaging.destination.name"
PARTITION = "messaging.destination.partition.id"
OFFSET = "messaging.kafka.offset"
GROUP = "messaging.consumer.group.name"
#: The request id, by which a search finds all of a request even where its trace is split.
CONVERSATION = "messaging.message.conversation_id"
ERROR_TYPE = "error.type"

# ----- spans: ours

TASK = "tierline.task"
TIER = "tierline.tier"
STEP = "tierline.step"
STAGE = "tierline.stage"
GENERATION = "tierline.generation"
RULE = "tierline.route.rule"
ROUTE_REASON = "tierline.route.reason"
POLICY = "tierline.policy"
POLICY_VERSION = "tierline.policy.version"
ATTEMPT_ID = "tierline.attempt.id"
OUTCOME = "tierline.outcome"
REASON = "tierline.reason"
MODEL = "tierline.model"
#: Seconds from a record's append to the start of its processing.
QUEUE_SECONDS = "tierline.queue.seconds"
#: Seconds of a whole request up to its result: intake, queue, model and own add up to the total.
INTAKE_TIME, QUEUE_TIME, MODEL_TIME, OWN_TIME, TOTAL_TIME = (
    f"tierline.time.{part}" for part in ("intake", "queue", "model", "own", "total")
)
REQUEST_ID = "tierline.request.id"
#: What a reviewer decided.
ACTION = "tierline.review.action"

# ----- spans: GenAI

GEN_AI_OPERATION = "gen_ai.operation.name"
GEN_AI_PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_ID = "gen_ai.response.id"
FINISH_REASONS = "gen_ai.response.finish_reasons"
MAX_TOKENS = "gen_ai.request.max_tokens"
OUTPUT_TYPE = "gen_ai.output.type"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS = "gen_ai.usage.cache_read.input_tokens"
GEN_AI_CONVERSATION = "gen_ai.conversation.id"
TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105
COST_AMOUNT = "gen_ai.usage.cost.amount"
COST_CURRENCY = "gen_ai.usage.cost.currency"
COST_SOURCE = "gen_ai.usage.cost.source"
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
DETAILS_EVENT = "gen_ai.client.inference.operation.details"
EVALUATION_EVENT = "gen_ai.evaluation.result"
EVALUATION_NAME = "gen_ai.evaluation.name"
EVALUATION_SCORE = "gen_ai.evaluation.score.value"
EVALUATION_LABEL = "gen_ai.evaluation.score.label"
EVALUATION_EXPLANATION = "gen_ai.evaluation.explanation"
SERVER_ADDRESS, SERVER_PORT = "server.address", "server.port"
HTTP_STATUS = "http.response.status_code"


@dataclass(frozen=True, slots=True)
class GenAiNames:
    """The GenAI names that differ between the two versions of the conventions."""

    duration: str
    #: A histogram by token type, or counters, one per type.
    tokens: str | Mapping[str, str]
    cache_write: str
    prompt_name: str | None
    prompt_version: str


def gen_ai_names(opt_in: str) -> GenAiNames:
    """The names to use, by the value of `OTEL_SEMCONV_STABILITY_OPT_IN`."""
    if "gen_ai_latest_experimental" in (part.strip() for part in opt_in.split(",")):
        prefix = "gen_ai.client.inference"
        kinds = ("input", "output")
        return GenAiNames(
            f"{prefix}.duration",
            {kind: f"{prefix}.usage.{kind}_tokens" for kind in kinds},
            "gen_ai.usage.cache_write.input_tokens",
            "gen_ai.prompt.name",
            "gen_ai.prompt.version",
        )
    return GenAiNames(
        "gen_ai.client.operation.duration",
        "gen_ai.client.token.usage",
        "gen_ai.usage.cache_creation.input_tokens",
        None,
        "tierline.prompt.version",
    )


# ----- metrics

#: Calls to models and whole requests take from milliseconds to minutes.
LONG_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300)
SHORT_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20)
TOKEN_BUCKETS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric and the question that it answers."""

    name: str
    kind: Literal["counter", "histogram", "gauge"]
    unit: str
    #: Its attributes.
    by: Sequence[str]
    question: str
    buckets: Sequence[float] = ()
    #: Attributes that are the same for every value.
    always: Mapping[str, str] = field(default_factory=dict)


REQUESTS = "tierline.requests"
ROUTES = "tierline.route.decisions"
ESCALATIONS = "tierline.escalations"
FALLBACKS = "tierline.fallbacks"
ATTEMPTS = "tierline.attempts"
COST = "tierline.cost"
DEAD_LETTERS = "tierline.dead_letters"
REQUEUES = "tierline.requeues"
BAD_CONTEXTS = "tierline.trace.rejected_contexts"
REQUEST_DURATION = "tierline.request.duration"
REQUEST_TIME = "tierline.request.time"
PROCESS_DURATION = "messaging.process.duration"
SENT = "messaging.client.sent.messages"
CONSUMED = "messaging.client.consumed.messages"
LAG = "tierline.consumer.lag"
OLDEST_AGE = "tierline.consumer.oldest_age"
IN_FLIGHT = "tierline.consumer.in_flight"
UNFINISHED = "tierline.consumer.unfinished"
COMMITTED_OFFSET = "tierline.consumer.committed_offset"
COMMIT_DURATION = "tierline.commit.duration"
LOOP_LAG = "tierline.event_loop.lag"
MODEL_OUT = "tierline.model.out"
TOKENS = "tierline.tokens"
CLIENT_DURATION = "messaging.client.operation.duration"
REVIEW_WAITING = "tierline.review.waiting"
REVIEW_PAST_DUE = "tierline.review.past_due"
REVIEW_OLDEST_AGE = "tierline.review.oldest_age"
REVIEW_DECISIONS = "tierline.review.decisions"
RISK = "tierline.risk"
MODEL_RUNNING = "tierline.model.running"
MODEL_MOST = "tierline.model.most_running"
POLICY_REFUSED = "tierline.policy.refused"
RELEASE = "tierline.policy.release"
OVERDUE = "tierline.policy.overdue"
PART = "tierline.part"
WHY = "tierline.why"
_KAFKA = {SYSTEM: "kafka"}
_WHERE = (STAGE, DESTINATION, PARTITION)
_CALL = (GEN_AI_OPERATION, GEN_AI_PROVIDER, REQUEST_MODEL, TIER)


def _metrics(names: GenAiNames) -> tuple[Metric, ...]:
    if isinstance(names.tokens, str):
        by = (*_CALL, TOKEN_TYPE)
        question = "How many tokens does a call read and write?"
        tokens = [Metric(names.tokens, "histogram", "{token}", by, question, TOKEN_BUCKETS)]
    else:
        tokens = [
            Metric(name, "counter", "{token}", _CALL, f"How many {kind} tokens are used?")
            for kind, name in names.tokens.items()
        ]
    return (
        Metric(REQUESTS, "counter", "{request}", (OUTCOME, TASK, TIER), "How do requests end?"),
        Metric(
            ROUTES, "counter", "{decision}", (TASK, TIER, RULE),
            "Where are requests sent, and by which rule?",
        ),
        Metric(
            ESCALATIONS, "counter", "{escalation}", (TASK, TIER, REASON),
            "Which tiers cannot defend their answers, and why?",
        ),
        Metric(
            FALLBACKS, "counter", "{fallback}", (TIER, MODEL, REASON),
            "Which models are asked in another's place, and why?",
        ),
        Metric(
            ATTEMPTS, "counter", "{attempt}", (TIER, MODEL, OUTCOME, REASON),
            "How often is a model's answer good enough?",
        ),
        Metric(COST, "counter", "USD", (TIER, MODEL), "What do the calls cost?"),
        Metric(
            TOKENS, "counter", "{token}", (TIER, MODEL, TOKEN_TYPE),
            "What are the calls' tokens: input, cache_read, cache_write, output, reasoning?",
        ),
        Metric(
            DEAD_LETTERS, "counter", "{record}", (STAGE, REASON),
            "What does the machine give up on?",
        ),
        Metric(REQUEUES, "counter", "{request}", (TASK,), "How much do people send through again?"),
        Metric(
            BAD_CONTEXTS, "counter", "{record}", (WHY,),
            "Do producers send trace contexts nobody can read?",
        ),
        Metric(
            REQUEST_DURATION, "histogram", "s", (TASK, TIER, OUTCOME),
            "What does a client wait, from append to result?", LONG_BUCKETS,
        ),
        Metric(
            REQUEST_TIME, "histogram", "s", (PART, TIER),
            "Where does the time go: intake, queue, model, own?", LONG_BUCKETS,
        ),
        Metric(
            names.duration, "histogram", "s", (*_CALL, ERROR_TYPE),
            "How long do calls to models take?", LONG_BUCKETS,
        ),
        *tokens,
        Metric(
            PROCESS_DURATION, "histogram", "s", (GROUP, DESTINATION, ERROR_TYPE),
            "How long does a worker hold a record? (Routing takes microseconds.)", LONG_BUCKETS,
            {**_KAFKA, OPERATION_NAME: "process"},
        ),
        Metric(
            CLIENT_DURATION, "histogram", "s", (GROUP, DESTINATION),
            "How long does a transaction take, from its first record to its commit?", SHORT_BUCKETS,
            {**_KAFKA, OPERATION_NAME: "commit", OPERATION_TYPE: "settle"},
        ),
        Metric(
            SENT, "counter", "{message}", (DESTINATION,), "How many records are committed?",
            always={**_KAFKA, OPERATION_NAME: "send"},
        ),
        Metric(
            CONSUMED, "counter", "{message}", (DESTINATION, GROUP), "How many are read?",
            always={**_KAFKA, OPERATION_NAME: "poll"},
        ),
        Metric(LAG, "gauge", "{record}", _WHERE, "How much waits? Holes in offsets count too."),
        Metric(OLDEST_AGE, "gauge", "s", _WHERE, "How old is the oldest record in hand?"),
        Metric(IN_FLIGHT, "gauge", "{record}", _WHERE, "How much is worked on?"),
        Metric(UNFINISHED, "gauge", "{record}", _WHERE, "How much is fetched, not committed?"),
        Metric(COMMITTED_OFFSET, "gauge", "{offset}", _WHERE, "Does the low watermark move?"),
        Metric(
            COMMIT_DURATION, "histogram", "s", (STAGE, DESTINATION),
            "How long does a group commit take, with all that went wrong?", SHORT_BUCKETS,
        ),
        Metric(
            LOOP_LAG, "histogram", "s", (),
            "How late is the event loop? All that a process does waits for it.", LAG_BUCKETS,
        ),
        Metric(
            MODEL_OUT, "gauge", "{process}", (MODEL, GEN_AI_PROVIDER),
            "Which models are left alone, and by how many processes?",
        ),
        Metric(
            MODEL_RUNNING, "gauge", "{call}", (MODEL, GEN_AI_PROVIDER),
            "How many calls does each model answer at once?",
        ),
        Metric(
            MODEL_MOST, "gauge", "{call}", (MODEL, GEN_AI_PROVIDER, WHY),
            "How many may it answer at once, as far as we know, and why no more?",
        ),
        Metric(
            POLICY_REFUSED, "gauge", "{request}", (TIER, POLICY_VERSION),
            "How many requests wait for a worker with the release they were routed under?",
        ),
        Metric(
            RELEASE, "gauge", "{release}", (POLICY,),
            "Do all processes apply one release? The value is its digest, as a number.",
        ),
        Metric(
            OVERDUE, "gauge", "{decision}", (POLICY,),
            "How many reviews of the policy, and decisions on trials, are overdue?",
        ),
        Metric(
            REVIEW_WAITING, "gauge", "{case}", (RISK,), "How many cases wait for a person?",
        ),
        Metric(
            REVIEW_PAST_DUE, "gauge", "{case}", (RISK,),
            "How many cases have waited longer than they may?",
        ),
        Metric(
            REVIEW_OLDEST_AGE, "gauge", "s", (RISK,), "How long has the oldest case waited?",
        ),
        Metric(
            REVIEW_DECISIONS, "counter", "{decision}", (ACTION, TASK, OUTCOME),
            "What do reviewers decide? Edits among the published answers are corrections.",
        ),
    )  # fmt: skip


#: The metrics under the numbered conventions; `metrics_of` has those under the newer ones.
METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _metrics(gen_ai_names(""))}


def metrics_of(names: GenAiNames) -> Mapping[str, Metric]:
    """Every metric, by name."""
    return {metric.name: metric for metric in _metrics(names)}

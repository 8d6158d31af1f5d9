"""Whether a reply can be published, and by which format it is judged."""

import json
import time

import pytest

from router.checks import Asked, named
from router.judge.judging import judge, output_contract
from router.policy.table import Policy
from router.reply.reply import Reply
from schemas.errors import ContractError
from schemas.json_numbers import as_json
from schemas.reasons import Reason
from schemas.request import Request
from schemas.usage import Usage
from schemas.verdict import Verdict

ALL = ["cut_off", "empty", "refusal", "schema", "confidence"]
TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {}}}]
CALLS = [{"id": "1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}]


def a_format(**fields):
    return {
        "type": "object",
        "required": list(fields),
        "properties": fields,
        "additionalProperties": False,
    }


ANSWER = a_format(answer={"type": "string"}, confidence={"type": "number"})


@pytest.fixture(scope="module")
def policy() -> Policy:
    row = {"trigger": "always", "tier": "low", "reason": "a test", "owner": "a test"}
    price = {"input": 1, "output": 1, "source": "a test", "as_of": "2026-01-01"}
    return Policy.model_validate(
        {
            "name": "a_test",
            "version": "1",
            "owner": "a test",
            "models": {
                "small": {"provider": "p", "id": "m", "price": price, "context_tokens": 1000}
            },
            "tiers": {"low": {"job": "all of it", "models": ["small"], "accept": 0.7}},
            "tasks": {
                "question": row,
                "label": {**row, "format": "label"},
                "prose": {**row, "format": "text"},
            },
            "formats": {
                "answer": ANSWER,
                "label": a_format(label={"type": "string"}),
                "classify": a_format(task={"type": "string"}, confidence={"type": "number"}),
            },
            "plans": {"standard": {"says": "all of it", "start_at_most": "low", "ceiling": "low"}},
            "default_plan": "standard",
        }
    )


def a_request(task="question", output_format=None, **body) -> Request:
    messages = [{"role": "user", "content": "hello"}]
    return Request.model_validate(
        {"task": task, "input": {"messages": messages, **body}, "output_format": output_format}
    )


def a_reply(text="", finish="stop", refusal=None, calls=()) -> Reply:
    message = {"role": "assistant", "content": text, "tool_calls": list(calls)}
    body = {"choices": [{"message": message, "finish_reason": finish}]}
    return Reply(text, finish, Usage(), body, refusal)


def judged(policy, text, *, request=None, finish="stop", calls=(), checks=ALL) -> Verdict:
    asked = request or a_request()
    contract = output_contract(asked, policy, asked.task, "answer")
    reply = a_reply(text, finish, calls=calls)
    return judge(reply, contract, 0.7, named(*checks), Asked(asked))


def test_a_sure_and_well_formed_answer_is_accepted(policy):
    verdict = judged(policy, '```json\n{"confidence": 0.9, "answer": "yes"}\n```')

    assert verdict.outcome == "accepted"
    assert verdict.confidence == 0.9
    assert list(verdict.output or {}) == ["answer", "confidence"]
    assert [check.check for check in verdict.checks] == ALL


@pytest.mark.parametrize(
    "stated",
    [
        pytest.param("NaN", id="NaN"),
        pytest.param("Infinity", id="infinity"),
        pytest.param("1e308", id="1e308"),
        pytest.param("1e999", id="beyond 64 bits"),
        pytest.param("-1", id="negative"),
        pytest.param("1.01", id="above one"),
        pytest.param('"0.99"', id="a number as text"),
        pytest.param("true", id="true"),
        pytest.param("null", id="null"),
        pytest.param("[0.99]", id="a list"),
        pytest.param('0.1, "confidence": 0.99', id="stated twice"),
    ],
)
@pytest.mark.parametrize("checks", [ALL, ["confidence"]], ids=["all checks", "confidence alone"])
def test_a_confidence_that_is_no_fraction_is_none(policy, stated, checks):
    """A comparison with NaN is false, which must not read as sure enough."""
    verdict = judged(policy, f'{{"answer": "yes", "confidence": {stated}}}', checks=checks)

    assert verdict.outcome == "rejected"
    assert verdict.confidence is None


def test_a_confidence_is_published_with_every_digit(policy):
    verdict = judged(policy, '{"answer": "yes", "confidence": 0.90000000000000000001}')

    assert as_json((verdict.output or {})["confidence"]) == b"0.90000000000000000001"


def test_a_missing_confidence_is_no_confidence(policy):
    verdict = judged(policy, '{"answer": "yes"}', checks=["confidence"])

    assert verdict.failed is not None
    assert verdict.failed.reason is Reason.LOW_CONFIDENCE


@pytest.mark.parametrize(
    ("task", "text"),
    [
        pytest.param("prose", "Just text.", id="plain text"),
        pytest.param("label", '{"label": "bug"}', id="a format without the field"),
    ],
)
def test_formats_without_a_confidence_need_none(policy, task, text):
    verdict = judged(policy, text, request=a_request(task))

    assert verdict.outcome == "accepted"
    assert verdict.confidence is None


@pytest.mark.parametrize(
    ("text", "finish", "reason"),
    [
        pytest.param('{"answer": "ye', "length", Reason.CUT_OFF, id="cut off, which also breaks"),
        pytest.param("", "stop", Reason.EMPTY, id="empty, which is no object either"),
        pytest.param("I can't help with that.", "stop", Reason.REFUSED, id="refused in prose"),
        pytest.param("", "content_filter", Reason.REFUSED, id="filtered to nothing"),
        pytest.param("Hello.", "stop", Reason.SCHEMA_FAILED, id="prose instead of an object"),
        pytest.param(
            '{"answer": "a", "confidence": 0.1}', "stop", Reason.LOW_CONFIDENCE, id="unsure"
        ),
    ],
)
def test_the_first_check_that_fails_gives_the_reason(policy, text, finish, reason):
    verdict = judged(policy, text, finish=finish)

    assert verdict.failed is not None
    assert verdict.failed.reason is reason
    assert len(verdict.checks) == len(ALL)


class TestToolCalls:
    def test_calling_an_offered_tool_is_an_answer(self, policy):
        request = a_request(tools=TOOLS)

        verdict = judged(policy, "", request=request, finish="tool_calls", calls=CALLS)

        assert verdict.outcome == "accepted"
        assert verdict.output == {"tool_calls": CALLS}

    @pytest.mark.parametrize(
        ("request_", "calls"),
        [
            pytest.param(a_request(), CALLS, id="tools nobody offered"),
            pytest.param(a_request(tools=TOOLS), [], id="a finish reason without a call"),
            pytest.param(a_request(tools=[]), CALLS, id="an empty list of tools"),
        ],
    )
    def test_claiming_a_tool_call_skips_no_check(self, policy, request_, calls):
        verdict = judged(policy, "junk", request=request_, finish="tool_calls", calls=calls)

        assert verdict.failed is not None
        assert verdict.failed.reason is Reason.SCHEMA_FAILED

    @pytest.mark.parametrize(
        "checks", [ALL, ["schema", "tool_calls"]], ids=["without tool_calls", "with both"]
    )
    def test_a_tool_call_is_held_against_the_tools_own_schema(self, policy, checks):
        calls = [{**CALLS[0], "function": {"name": "look_up", "arguments": "no JSON"}}]
        request = a_request(tools=TOOLS)

        verdict = judged(policy, "", request=request, calls=calls, checks=checks)

        assert verdict.failed is not None
        assert verdict.failed.reason is Reason.TOOL_CALL_BROKEN
        assert len(verdict.checks) == len(checks)


class TestTokenProbability:
    @pytest.mark.parametrize(
        ("tokens", "confidence"),
        [
            pytest.param([{"logprob": -0.1}, {"logprob": -0.3}], 0.8187, id="the geometric mean"),
            pytest.param([{"logprob": 0}], 1.0, id="certain"),
            pytest.param([{"logprob": 1e-6}], 1.0, id="rounded above one"),
            pytest.param([{"logprob": -9999.0}], 0.0, id="next to impossible"),
            pytest.param([], None, id="no tokens"),
            pytest.param(None, None, id="none asked for"),
            pytest.param([{"logprob": -0.1}, {}], None, id="one is missing"),
            pytest.param([{"logprob": "-0.1"}], None, id="a number as text"),
            pytest.param([{"logprob": True}], None, id="true"),
            pytest.param([{"logprob": float("nan")}], None, id="NaN"),
            pytest.param(["-0.1"], None, id="no object"),
        ],
    )
    def test_the_tokens_say_how_sure_the_model_was(self, policy, tokens, confidence):
        verdict = self.judged(policy, '{"answer": "yes", "confidence": 0.99}', tokens)

        assert verdict.confidence == (confidence and pytest.approx(confidence, abs=1e-4))
        assert (verdict.outcome == "accepted") is ((confidence or 0) >= 0.7)

    def test_a_tool_call_without_probabilities_is_not_held_against_them(self, policy):
        assert self.judged(policy, "", None, calls=CALLS).outcome == "accepted"
        unsure = self.judged(policy, "", [{"logprob": -1}], calls=CALLS)
        assert unsure.outcome == "rejected"

    def judged(self, policy, text, tokens, calls=()) -> Verdict:
        row = policy.tasks["question"].model_copy(update={"confidence": "token_probability"})
        changed = policy.model_copy(update={"tasks": {**policy.tasks, "question": row}})
        asked = a_request(tools=TOOLS) if calls else a_request()
        contract = output_contract(asked, changed, "question", "answer")
        reply = a_reply(text, calls=calls)
        reply.body["choices"][0]["logprobs"] = {"content": tokens}
        return judge(reply, contract, 0.7, named(*ALL), Asked(asked))


def test_a_high_confidence_skips_no_other_check(policy):
    checks = ["confidence", {"forbidden": {"phrases": ["never"]}}, {"length": {"most_words": 1}}]

    verdict = judged(policy, '{"answer": "never ever", "confidence": 1}', checks=checks)

    assert [check.passed for check in verdict.checks] == [True, False, False]
    assert verdict.failed is not None
    assert verdict.failed.reason is Reason.FORBIDDEN_FOUND


def test_an_accepted_answer_always_has_an_output(policy):
    """A policy may do without the schema check; the result still shows what was said."""
    assert judged(policy, "hello", checks=["empty"]).output == {"answer": "hello"}


def test_every_verdict_can_be_written_down(policy):
    verdict = judged(policy, '{"answer": "\\ud800", "confidence": 0.9}')

    assert verdict.outcome == "rejected"
    assert verdict.model_dump_json()


class TestContract:
    @pytest.mark.parametrize(
        ("request_", "name"),
        [
            pytest.param(a_request(), "answer", id="the task's"),
            pytest.param(a_request("prose"), "text", id="text where the task says so"),
            pytest.param(a_request(output_format="text"), "text", id="the request's: text"),
            pytest.param(a_request("prose", "json"), "json", id="the request's: any object"),
            pytest.param(a_request(output_format=ANSWER), "own", id="the request's: a schema"),
            pytest.param(
                a_request(response_format={"type": "json_object"}), "json", id="the chat body's"
            ),
            pytest.param(
                a_request(
                    response_format={"type": "json_schema", "json_schema": {"schema": ANSWER}}
                ),
                "own",
                id="the chat body's schema",
            ),
            pytest.param(
                a_request(output_format="text", response_format={"type": "json_object"}),
                "text",
                id="the request's own before the chat body's",
            ),
            pytest.param(
                a_request(response_format={"type": "new"}), "answer", id="what we do not know"
            ),
        ],
    )
    def test_who_decides_the_format(self, policy, request_, name):
        assert output_contract(request_, policy, request_.task, "answer").name == name

    def test_the_classify_step_asks_for_a_task_of_the_policy(self, policy):
        contract = output_contract(a_request(output_format="text"), policy, None, "classify")

        assert contract.name == "classify"
        assert contract.validator is not None
        assert contract.validator.is_valid({"task": "label", "confidence": 1})
        assert not contract.validator.is_valid({"task": "nonsense", "confidence": 1})

    @pytest.mark.parametrize(
        "schema",
        [
            pytest.param({"$ref": "https://example.com/schema.json"}, id="a remote reference"),
            pytest.param({"$ref": "file:///etc/passwd"}, id="a local file"),
            pytest.param({"$ref": "#/nowhere"}, id="a reference to nothing"),
            pytest.param({"type": 5}, id="no schema at all"),
            pytest.param({"title": "\ud800"}, id="half a character"),
        ],
    )
    def test_a_request_whose_schema_cannot_be_used_is_refused(self, policy, schema):
        with pytest.raises(ContractError) as refused:
            output_contract(a_request(output_format=schema), policy, "question", "answer")

        assert refused.value.reason is Reason.INVALID_FIELD

    def test_a_hostile_pattern_costs_little(self, policy):
        """Patterns come from producers; one of them must not hold up the others."""
        pattern = {"type": "object", "properties": {"a": {"pattern": "^(a+)+(a|a)*b$"}}}
        contract = output_contract(a_request(output_format=pattern), policy, "question", "answer")
        reply = a_reply(json.dumps({"a": "a" * 2000}))
        began = time.perf_counter()

        verdict = judge(reply, contract, 0.7, named(*ALL), Asked(a_request()))

        assert time.perf_counter() - began < 0.5
        assert verdict.outcome == "rejected"

    @pytest.mark.parametrize("pattern", ["^(?=a)", r"(a)\1", "(", "a{9999}", r"\p{L}{1,500}"])
    def test_a_pattern_that_no_linear_engine_takes_is_refused(self, policy, pattern):
        schema = {"type": "object", "properties": {"a": {"pattern": pattern}}}

        with pytest.raises(ContractError, match="pattern") as refused:
            output_contract(a_request(output_format=schema), policy, "question", "answer")
        assert refused.value.reason is Reason.UNSUPPORTED_SCHEMA

    def test_a_confidence_that_is_no_number_is_the_producers_own_field(self, policy):
        schema = a_format(confidence={"enum": ["high", "low"]})
        request = a_request(output_format=schema)

        verdict = judged(policy, '{"confidence": "high"}', request=request)
        assert verdict.outcome == "accepted"


@pytest.mark.parametrize(
    ("number", "passes"), [("184467440737095516170001", True), ("12345678901234567890.5", False)]
)
def test_a_tools_integer_may_have_any_number_of_digits(policy, number, passes):
    schema = {"type": "object", "properties": {"no": {"type": "integer"}}}
    tools = [{"type": "function", "function": {"name": "look_up", "parameters": schema}}]
    call = {"function": {"name": "look_up", "arguments": f'{{"no": {number}}}'}}
    verdict = judged(policy, "", request=a_request(tools=tools), calls=[{**CALLS[0], **call}])

    assert (verdict.outcome == "accepted") is passes
    assert verdict.output == {"tool_calls": [{**CALLS[0], **call}]}

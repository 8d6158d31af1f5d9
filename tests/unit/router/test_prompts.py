"""What a model is told, which versions are written down, and what never leaves the house."""

from pathlib import Path

import pytest

from router.errors import PromptError
from router.judge.judging import OutputContract, output_contract
from router.policy.load import load_policy
from router.prompts.chat_fields import OPENAI
from router.prompts.files import VARIABLES
from router.prompts.rendering import Prompts, chat_body
from schemas.attempt import Step
from schemas.base import Tier
from schemas.request import Request

DEPLOY = Path(__file__).parents[3] / "deploy"
TEXT = OutputContract("text", None, None)
JSON = OutputContract("json", {"type": "object"}, None)
FORMAT = OutputContract("answer", {"type": "object", "properties": {"answer": {}}}, None)
CONTRACT = "version: 2\nformat: answer\nsays: Answer the question.\n"
DEFAULT = {
    "_default/contract.yaml": "version: 1\nformat: answer\nsays: Do it.\nvariants: {low: 3}\n",
    "_default/low.j2": (
        "Task: {{ task }}\n{{ says }}\n{% if schema %}Schema: {{ schema }}{% endif %}"
    ),
    "question/contract.yaml": CONTRACT,
}


def a_request(context=None, output_format=None, **body) -> Request:
    messages = body.pop("messages", [{"role": "user", "content": "hello"}])
    return Request.model_validate(
        {
            "input": {"messages": messages, **body},
            "context": context or {},
            "output_format": output_format,
        }
    )


def rendered(files=DEFAULT, task="question", tier=Tier.LOW, request=None, contract=FORMAT):
    return Prompts.load(files).render(task, tier, request or a_request(), contract)


def a_body(request, contract=FORMAT, most=500):
    return asked(request, contract, most)[0]


def asked(request, contract=FORMAT, most=500):
    prompt = rendered(request=request, contract=contract)
    return chat_body(prompt, request, "a-model", most, OPENAI)


class TestVersions:
    def test_contract_and_variant_are_written_down_as_a_pair(self):
        files = {
            **DEFAULT,
            "question/contract.yaml": CONTRACT + "variants: {low: 7}\n",
            "question/low.j2": "Task: {{ task }}",
        }

        assert rendered(files).version == "question@2+low@7"

    def test_a_task_without_its_own_variant_uses_the_default_one(self):
        assert rendered().version == "question@2+default_low@3"

    @pytest.mark.parametrize(
        ("task", "tier"),
        [
            pytest.param("unknown", Tier.LOW, id="a task without a contract"),
            pytest.param("question", Tier.PREMIUM, id="a tier without a variant"),
        ],
    )
    def test_all_else_is_passed_through(self, task, tier):
        prompt = rendered(task=task, tier=tier)

        assert prompt.version == "passthrough@1"
        assert prompt.messages == [{"role": "user", "content": "hello"}]


class TestMessages:
    def test_the_variant_precedes_what_the_producer_says(self):
        conversation = [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": [{"type": "text", "text": "hello"}], "name": "kim"},
        ]

        prompt = rendered(request=a_request(messages=conversation))

        assert prompt.messages[0]["role"] == "system"
        assert prompt.messages[0]["content"].startswith("Task: question\nAnswer the question.\n")
        assert prompt.messages[1:] == conversation

    def test_the_schema_is_asked_for_in_words_and_by_field(self):
        prompt = rendered()

        assert (
            'Schema: {"type":"object","properties":{"answer":{}}}' in prompt.messages[0]["content"]
        )
        assert prompt.response_format == {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": FORMAT.schema},
        }

    def test_text_asks_for_no_schema(self):
        prompt = rendered(contract=TEXT)

        assert "Schema" not in prompt.messages[0]["content"]
        assert prompt.response_format is None

    def test_any_object_is_asked_for_as_one(self):
        assert rendered(contract=JSON).response_format == {"type": "json_object"}

    def test_context_follows_the_prompt_and_is_told_from_instructions(self):
        request = a_request({"system": "Be brief.", "retrieved": ["one", "two"]})

        text = rendered(request=request).messages[0]["content"]

        assert text.index("Task:") < text.index("Be brief.") < text.index("not instructions")
        assert "<retrieved>\none\n\ntwo\n</retrieved>" in text

    def test_a_variant_may_place_the_context_itself(self):
        files = {**DEFAULT, "_default/low.j2": "{{ context.history }}!"}

        prompt = rendered(files, request=a_request({"history": "before"}))

        assert prompt.messages[0]["content"] == "before!"

    def test_context_passed_through_follows_the_producers_system_messages(self):
        conversation = [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "hello"},
        ]
        request = a_request({"user": "Kim"}, messages=conversation)

        messages = rendered(task="unknown", request=request).messages

        assert [message["role"] for message in messages] == ["system", "system", "user"]
        assert "<user>\nKim\n</user>" in messages[1]["content"]

    def test_what_the_producer_says_is_never_a_template(self):
        hostile = "{{ says }} {% for x in range(10**9) %}x{% endfor %}"

        messages = rendered(
            request=a_request({"user": hostile}, messages=[{"role": "user", "content": hostile}])
        ).messages

        assert hostile in messages[0]["content"]
        assert messages[1]["content"] == hostile


class TestBody:
    def test_what_the_format_has_a_place_for_goes_along(self):
        tools = [{"type": "function", "function": {"name": "look_up"}}]
        extra = {"tools": tools, "tool_choice": "auto", "seed": 7, "stop": ["x"]}

        body = a_body(a_request(**extra, temperature=0))

        assert {name: body[name] for name in extra} == extra
        assert body["temperature"] == 0
        assert body["model"] == "a-model"

    def test_what_no_list_names_is_left_out_and_said(self):
        conversation = [{"role": "user", "content": "hello", "name": "kim"}]

        body, left_out = asked(a_request(messages=conversation, base_url="x", model="dear", n=1))

        assert "base_url" not in body
        assert body["messages"][-1] == {"role": "user", "content": "hello"}
        assert left_out == ["base_url", "messages.name"]

    def test_a_format_without_a_value_is_as_good_as_none(self):
        body = a_body(a_request(response_format=None))

        assert body["response_format"]["type"] == "json_schema"

    def test_a_choice_among_tools_that_are_left_out_is_none(self):
        body, left_out = asked(a_request(tools=[{"type": "mcp"}], tool_choice="required"))

        assert "tool_choice" not in body
        assert left_out == ["tool_choice", "tools"]

    @pytest.mark.parametrize(
        "name",
        [
            "stream",
            "stream_options",
            "n",
            "user",
            "metadata",
            "store",
            "safety_identifier",
            "prompt_cache_key",
            "service_tier",
        ],
    )
    def test_what_never_leaves(self, name):
        assert name not in a_body(a_request(**{name: "kim@example.com"}))

    def test_the_producers_model_is_replaced(self):
        assert a_body(a_request(model="dear"))["model"] == "a-model"

    @pytest.mark.parametrize(
        ("asked", "expected"),
        [
            pytest.param({}, {"max_tokens": 500}, id="ours"),
            pytest.param({"max_tokens": 9}, {"max_tokens": 9}, id="the producer asks for less"),
            pytest.param(
                {"max_tokens": 9000}, {"max_tokens": 500}, id="the producer asks for more"
            ),
            pytest.param(
                {"max_completion_tokens": 9}, {"max_completion_tokens": 9}, id="by the newer name"
            ),
            pytest.param(
                {"max_completion_tokens": 90, "max_tokens": 9},
                {"max_completion_tokens": 9},
                id="by both names",
            ),
            pytest.param({"max_tokens": "9"}, {"max_tokens": 500}, id="no number"),
            pytest.param({"max_tokens": -1}, {"max_tokens": 500}, id="a negative number"),
            pytest.param({"max_tokens": True}, {"max_tokens": 500}, id="a truth value"),
        ],
    )
    def test_the_output_limit_can_only_be_lowered(self, asked, expected):
        body = a_body(a_request(**asked))

        assert {name: body[name] for name in body if name.startswith("max_")} == expected

    @pytest.mark.parametrize(
        ("request_", "contract", "kind"),
        [
            pytest.param(a_request(), FORMAT, "json_schema", id="ours"),
            pytest.param(a_request(), TEXT, None, id="none for text"),
            pytest.param(
                a_request(response_format={"type": "json_object"}),
                JSON,
                "json_object",
                id="the producer's own",
            ),
            pytest.param(
                a_request(output_format="text", response_format={"type": "json_object"}),
                TEXT,
                None,
                id="an output format wins",
            ),
        ],
    )
    def test_the_response_format(self, request_, contract, kind):
        assert a_body(request_, contract).get("response_format", {}).get("type") == kind

    def test_the_classify_step_asks_nothing_but_its_own_question(self):
        request = a_request(tools=[{"type": "function"}], seed=7, stop=["{"])
        files = {**DEFAULT, "classify/contract.yaml": CONTRACT}
        contract = OutputContract("classify", {"type": "object"}, None)
        prompt = Prompts.load(files).render(
            "classify", Tier.LOW, request, contract, triggers={"a": "always"}
        )

        body, _ = chat_body(prompt, request, "a-model", 500, OPENAI)

        assert set(body) == {"model", "messages", "response_format", "max_tokens"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param(
            {"_default/low.j2": "line\n{% if %}"},
            "_default/low.j2:2: ",
            id="a syntax error",
        ),
        pytest.param(
            {"_default/low.j2": "Task:\n{{ taks }}"},
            "_default/low.j2:2: no variable is called taks; did you mean tasks?",
            id="an unknown variable",
        ),
        pytest.param(
            {"_default/low.j2": "{{ context.histroy }}"},
            "_default/low.j2:1: cannot be rendered: ",
            id="an unknown part of a variable",
        ),
        pytest.param(
            {"_default/low.j2": "{{ ''.__class__.__mro__ }}"},
            "_default/low.j2:1: cannot be rendered: ",
            id="a way out of the sandbox",
        ),
        pytest.param(
            {"question/contract.yaml": CONTRACT + "tome: kind\n"},
            "question/contract.yaml:4: tome: ",
            id="an unknown field",
        ),
        pytest.param(
            {"question/contract.yaml": CONTRACT + "version: 3\n"},
            "question/contract.yaml:4: version: named twice; first on line 1",
            id="a field twice",
        ),
        pytest.param(
            {"question/contract.yaml": "format: answer\nsays: Answer.\n"},
            "question/contract.yaml:1: version: ",
            id="a missing field",
        ),
        pytest.param(
            {"question/contract.yaml": CONTRACT + "variants: {lwo: 1}\n"},
            "question/contract.yaml:4: ",
            id="an unknown tier",
        ),
        pytest.param(
            {"question/contract.yaml": "a: [\n"}, "question/contract.yaml:2: ", id="no YAML"
        ),
        pytest.param(
            {"question/contract.yaml": CONTRACT + "variants: {low: 1}\n"},
            "question/contract.yaml:1: variants names low, but low.j2 is missing",
            id="a variant without a file",
        ),
        pytest.param(
            {"question/low.j2": "hello"},
            "question/low.j2:1: question/contract.yaml gives no version for it",
            id="a file without a version",
        ),
        pytest.param(
            {"question/loww.j2": "hello"},
            "question/loww.j2:1: expected <task>/contract.yaml or <task>/<tier>.j2; did you mean",
            id="a file of another name",
        ),
    ],
)
def test_mistakes_are_refused_with_file_and_line(files, expected):
    with pytest.raises(PromptError) as refused:
        Prompts.load({**DEFAULT, **files})

    assert expected in str(refused.value)


def test_all_mistakes_are_listed_at_once():
    with pytest.raises(PromptError) as refused:
        Prompts.load({**DEFAULT, "_default/low.j2": "{% if %}", "stray.j2": ""})

    assert len(str(refused.value).splitlines()) == 2


@pytest.fixture(scope="module")
def prompts():
    root = DEPLOY / "prompts"
    files = (path for path in root.rglob("*") if path.is_file())
    return Prompts.load({str(path.relative_to(root)): path.read_text("utf-8") for path in files})


@pytest.fixture(scope="module")
def policy():
    file = DEPLOY / "policy" / "routing.yaml"
    return load_policy(file.read_text("utf-8"), str(file))


class TestShipped:
    """The prompts that come with the product fit the policy that comes with it."""

    def test_every_task_has_a_contract_for_its_format(self, prompts, policy):
        written_for = {task: prompts.contracts[task].format for task in policy.tasks}

        assert written_for == {name: task.format for name, task in policy.tasks.items()}

    def test_every_task_and_tier_has_a_prompt_that_names_task_and_schema(self, prompts, policy):
        triggers = {name: task.trigger for name, task in policy.tasks.items()}
        for name in (*policy.tasks, "classify"):
            for tier in Tier:
                step: Step = "classify" if name == "classify" else "answer"
                contract = output_contract(a_request(), policy, name, step)
                prompt = prompts.render(name, tier, a_request(), contract, triggers=triggers)
                lines = prompt.messages[0]["content"].splitlines()

                assert f"Task: {name}" in lines
                assert any(line.startswith("Schema: {") for line in lines)

    def test_the_classify_prompt_lists_every_task_with_its_trigger(self, prompts, policy):
        triggers = {name: task.trigger for name, task in policy.tasks.items()}
        contract = output_contract(a_request(), policy, None, "classify")

        prompt = prompts.render("classify", Tier.LOW, a_request(), contract, triggers=triggers)

        for name, trigger in triggers.items():
            assert f"- {name}: {trigger}" in prompt.messages[0]["content"]

    def test_the_variables_are_all_used_somewhere(self):
        used = "".join(path.read_text("utf-8") for path in (DEPLOY / "prompts").rglob("*.j2"))

        assert {name for name in VARIABLES if name not in used} <= {"context", "tier"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello {{ name }}", ":5: a text may name task and nothing else; found name"),
        ("Hello {{ task", ":5: "),
        ("As an AI, I cannot help with {{ task }}.", ":5: it reads like a model's refusal"),
    ],
)
def test_a_text_for_customers_is_checked_when_it_is_loaded(text, words):
    contract = f'{CONTRACT}texts:\n  refusal: "{text}"\n'

    with pytest.raises(PromptError, match=words):
        Prompts.load({**DEFAULT, "question/contract.yaml": contract})


def test_tests_and_locks_stand_beside_prompts():
    beside = {"question/examples.yaml": "- says: x", "versions.lock": "?"}

    assert Prompts.load({**DEFAULT, **beside}).contracts.keys() == {"_default", "question"}

"""The checks that a policy sets: what they find, what they leave alone, and how quick they are."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from router.checks import CHECKS, Asked, Judged, NamedCheck, named
from router.checks.words import readings
from router.reply.reply import Reply
from router.request.languages import LANGUAGES, language_of
from schemas.usage import Usage
from tests.builders import a_request

SOURCES = [
    "Refunds are possible within 30 days of delivery, as Jane Doe of Leeds confirmed.",
    "Deleted files stay in the archive for 1,200 hours. Write to help@example.com about AB-2231.",
]
LOOK_UP = {
    "name": "look_up",
    "parameters": {
        "type": "object",
        "required": ["order"],
        "properties": {"order": {"type": "string"}},
    },
}
#: What each check is given where a test has no parameters of its own.
PARAMETERS: dict[str, Any] = {
    "length": {"most_words": 40},
    "required": {"phrases": ["30 days"]},
    "forbidden": {"phrases": ["I guarantee"], "emails": True, "phones": True},
}


def a_question(text="What can I do about my refund, please?", retrieved=SOURCES, **body):
    context = {"retrieved": retrieved} if retrieved else {}
    messages = [{"role": "user", "content": text}]
    return a_request(input={"messages": messages, **body}, context=context)


def judged(answer, *, request=None, output=None, calls=None) -> Judged:
    body = {"choices": [{"message": {"tool_calls": calls or []}}]}
    return Judged(
        reply=Reply(answer, "stop", Usage(), body),
        output={"answer": answer} if output is None and calls is None else output,
        validator=None,
        confidence=0.9,
        accept=None,
        asked=Asked(request or a_question()),
        calls_tools=calls is not None,
    )


def run(name, case: Judged, **parameters) -> str | None:
    [check] = named({name: parameters or PARAMETERS.get(name, {})})
    return check.check.run(case, check.parameters)


def a_call(name="look_up", arguments='{"order": "17"}'):
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize(
    ("name", "answer", "parameters"),
    [
        pytest.param("length", "word " * 41, {}, id="too many words"),
        pytest.param("length", "word", {"least_words": 2}, id="too few words"),
        pytest.param("length", "no", {"least_characters": 3}, id="too few characters"),
        pytest.param("length", "日本語です", {"most_characters": 4}, id="characters, not bytes"),
        pytest.param(
            "language", "Sie können das in den Einstellungen ändern und dann mit der Karte zahlen.",
            {}, id="another language than the question",
        ),
        pytest.param("language", "You can do this and that with it.", {"must_be": "fr"}, id="set"),
        pytest.param(
            "grounding", "The moon is made of green cheese. Astronauts brought home several tons.",
            {}, id="nothing of it is in the sources",
        ),
        pytest.param("grounding", "Refunds are possible within 30 days [3].", {}, id="no source 3"),
        pytest.param("grounding", "Refunds are possible within 30 days [0].", {}, id="no source 0"),
        pytest.param(
            "grounding", 'It says "refunds are always granted", within 30 days.', {},
            id="a quotation that nobody wrote",
        ),
        pytest.param(
            "grounding", "Refunds are possible within 30 days of delivery.",
            {"least_cited": 0.5}, id="nothing is cited",
        ),
        pytest.param("entities", "Please ask our Brandt about it.", {}, id="a name"),
        pytest.param("entities", "Your order is CX-9941.", {}, id="an id"),
        pytest.param("entities", "CX-9941 is your order.", {}, id="an id at the beginning"),
        pytest.param("entities", "Write to me@other.example.", {}, id="an e-mail address"),
        pytest.param("entities", "See https://other.example/a.", {}, id="a link"),
        pytest.param("numbers", "Within 14 days.", {}, id="another number"),
        pytest.param("numbers", "After 1.3k hours.", {}, id="another number, shortened"),
        pytest.param("numbers", "Within \u0661\u0664 days.", {}, id="another number, in Arabic"),
        pytest.param("required", "Within a month.", {}, id="what every answer says"),
        pytest.param(
            "required", "Yes.", {"when": {"refund": "bank account"}}, id="what the question needs"
        ),
        pytest.param("required", "Within 130 days.", {}, id="only as a part of another word"),
        pytest.param("forbidden", "Well,  I\nGUARANTEE it.", {}, id="a phrase, however spaced"),
        pytest.param(
            "forbidden", "See a lawyer.", {"unless": {"lawyer": "legal"}}, id="nobody asked for it"
        ),
        pytest.param("forbidden", "Write to a@b.example.", {}, id="an address"),
        pytest.param("forbidden", "Call +44 20 7946 0958.", {}, id="a telephone number"),
    ],
)  # fmt: skip
def test_a_bad_answer_fails(name, answer, parameters):
    assert run(name, judged(answer), **parameters)


@pytest.mark.parametrize(
    ("name", "answer", "parameters"),
    [
        pytest.param("length", "word " * 40, {}, id="exactly as long as allowed"),
        pytest.param("length", "a b", {"most_words": 1, "field": "other"}, id="another field"),
        pytest.param("language", "ok", {}, id="too short to tell"),
        pytest.param("language", "def f(x): return x", {"must_be": "de"}, id="code"),
        pytest.param("language", "You can get it within 30 days.", {}, id="the question's own"),
        pytest.param(
            "grounding", "Refunds are possible within 30 days of the delivery [1].",
            {"least_cited": 1.0}, id="in the sources, and cited",
        ),
        pytest.param("grounding", "A delivered file gets refunded in days.", {}, id="other forms"),
        pytest.param("grounding", "Thank you for writing!", {}, id="a courtesy claims nothing"),
        pytest.param(
            "grounding", 'It says "possible within\n30 days of delivery."', {},
            id="a quotation, white space aside",
        ),
        pytest.param("grounding", 'Press "Save" or "Do".', {}, id="a label is no quotation"),
        pytest.param("grounding", "配達から三十日以内に返金できます。ここを見てください。", {},
            id="a script without spaces"),
        pytest.param("entities", "Ask Jane Doe of Leeds about AB-2231.", {}, id="known names"),
        pytest.param("entities", "Write to Help@example.com.", {}, id="a known address"),
        pytest.param("entities", "Yes. Every file stays. I'm sure.", {}, id="no names"),
        pytest.param("entities", "Open the Portal.", {"known": ["portal"]}, id="the product's own"),
        pytest.param("entities", "Ask our Brandt.", {"most": 1}, id="as many as allowed"),
        pytest.param(
            "entities", "Sie können die Dateien und das Konto in den Einstellungen ändern.", {},
            id="German nouns",
        ),
        pytest.param("numbers", "1200 hours, 1.2k or 1\u00a0200,00 hours.", {}, id="other formats"),
        pytest.param("numbers", "1. Wait 30 days.\n2) Write to us [2].", {}, id="list markers"),
        pytest.param("numbers", "Within 14 days.", {"most": 1}, id="as many as allowed"),
        pytest.param("required", "Within 30\n days.", {}, id="white space aside"),
        pytest.param("required", "Yes.", {"when": {"export": "file"}}, id="nobody asked"),
        pytest.param(
            "forbidden", "No.", {"unless": {"no": "refund"}}, id="the question allows it"
        ),
        pytest.param("forbidden", "On 2026-03-01, order 1234567890.", {}, id="dates and ids"),
        pytest.param("forbidden", "I guaranteed it.", {}, id="another word"),
    ],
)  # fmt: skip
def test_a_good_answer_passes(name, answer, parameters):
    assert run(name, judged(answer), **parameters) is None


@pytest.mark.parametrize(
    ("first", "second", "answer", "fails"),
    [
        ("Refunds are accepted within 30 days.", "Refunds are possible within 14 days.",
         "Within 30 days.", True),
        ("The shop opens on 2026-03-01.", "The shop opens on 2026-03-15.",
         "On 2026-03-15.", True),
        ("Refunds are accepted within 30 days.", "Refunds are possible within 14 days.",
         "One source says 30 days, another 14 days.", False),
        ("Refunds are accepted within 30 days.", "Refunds are possible within 14 days.",
         "Please ask.", False),
        ("Refunds take 30 days in Leeds.", "Refunds take 14 days in Porto.", "30 days.", False),
        ("The fee was 10 dollars in 2023.", "The fee was 12 dollars in 2024.", "12.", False),
        ("The archive keeps 1,200 files.", "The archive keeps 1200 files.", "1200 files.", False),
        ("Plan A costs 10 dollars a month.", "Plan B costs 20 dollars a month.", "10.", False),
    ],
)  # fmt: skip
def test_a_conflict_of_the_sources_must_be_said(first, second, answer, fails):
    case = judged(answer, request=a_question(retrieved=[first, second]))

    assert bool(run("conflicts", case)) is fails


def test_without_a_context_the_users_own_text_is_the_source():
    """A summary's source is its input."""
    request = a_question("Summarise: 40 people waited for the cancelled train.", retrieved=None)

    assert run("grounding", judged("People waited for a cancelled train.", request=request)) is None
    assert run("grounding", judged("Many passengers enjoyed a pleasant flight.", request=request))


def test_the_fields_of_an_object_are_read_too():
    output = {"name": "Jane Doe", "order_number": "AB-9999", "total": 48.9, "confidence": 0.77}

    assert run("entities", judged("", output=output)) is not None
    assert "1 numbers" not in (run("numbers", judged("", output=output)) or "")
    assert run("numbers", judged("", output=output)) is not None
    assert run("numbers", judged("", output={"hours": 1200, "confidence": 0.77})) is None


def test_a_named_check_is_written_as_it_was_read():
    """Tests and tools change a policy by writing it out and reading it back."""
    rows: list[Any] = ["empty", {"length": {"most_words": 9}}, {"required": {"when": {"a": "b"}}}]

    written = TypeAdapter(list[NamedCheck]).dump_python(named(*rows))

    assert written == rows
    assert named(*written) == named(*rows)


class TestToolCalls:
    REQUEST = a_question(tools=[{"type": "function", "function": LOOK_UP}])

    @pytest.mark.parametrize(
        "call",
        [
            pytest.param(a_call("delete_all"), id="a tool nobody offered"),
            pytest.param(a_call(arguments="{order: 17}"), id="arguments that are no JSON"),
            pytest.param(a_call(arguments='"17"'), id="arguments that are no object"),
            pytest.param(a_call(arguments="{}"), id="a required field is missing"),
            pytest.param(a_call(arguments='{"order": 17}'), id="a field of another type"),
            pytest.param(a_call(arguments='{"order": "1", "order": "2"}'), id="a field twice"),
            pytest.param({"function": {"name": "look_up"}}, id="no arguments"),
            pytest.param({}, id="nothing"),
        ],
    )
    def test_a_broken_call_fails(self, call):
        assert run("tool_calls", judged("", request=self.REQUEST, calls=[a_call(), call]))

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ('{"order": 1e400}', "cannot be read with every digit"),
            ("null", "are not an object"),
            ("[17]", "are not an object"),
        ],
    )
    def test_a_broken_call_is_told_by_what_is_wrong(self, arguments, words):
        calls = [a_call(arguments=arguments)]
        detail = run("tool_calls", judged("", request=self.REQUEST, calls=calls))
        assert detail is not None
        assert words in detail

    def test_a_call_that_fits_passes(self):
        assert run("tool_calls", judged("", request=self.REQUEST, calls=[a_call()])) is None

    def test_a_tool_whose_schema_cannot_be_used_leaves_its_arguments_alone(self):
        tool = {**LOOK_UP, "parameters": {"type": "dict"}}
        request = a_question(tools=[{"type": "function", "function": tool}])

        assert run("tool_calls", judged("", request=request, calls=[a_call()])) is None

    @pytest.mark.parametrize("demanded", ["required", {"function": {"name": "other"}}])
    def test_a_call_that_is_demanded_must_be_made(self, demanded):
        request = a_question(tools=[{"function": LOOK_UP}], tool_choice=demanded)

        assert run("tool_calls", judged("Sure!", request=request))
        other = judged("", request=request, calls=[a_call()])
        assert bool(run("tool_calls", other)) is (demanded != "required")

    @pytest.mark.parametrize("name", ["entities", "numbers", "forbidden"])
    def test_what_a_call_hands_over_is_checked_like_words(self, name):
        arguments = json.dumps({"order": "CX-9941 of a@b.example"})
        case = judged("", request=self.REQUEST, calls=[a_call(arguments=arguments)])

        assert run(name, case)

    @pytest.mark.parametrize("name", ["length", "language", "grounding", "required", "conflicts"])
    def test_checks_of_prose_have_nothing_to_say_about_a_call(self, name):
        assert run(name, judged("", request=self.REQUEST, calls=[a_call()])) is None


SAMPLES = {
    "en": "How can I change the address of my invoice, and what will it cost?",
    "de": "Wie kann ich die Adresse auf der Rechnung ändern und was kostet das?",
    "fr": "Comment est-ce que je peux changer une adresse sur la facture pour nous ?",
    "es": "¿Cómo puede cambiar la dirección en los ajustes de su cuenta, por favor?",
    "it": "Come si può cambiare il nome che è sulla fattura con gli altri dati?",
    "pt": "Como é que você pode mudar o endereço da conta para uma nova, por favor?",
    "nl": "Hoe kan ik het adres van mijn rekening wijzigen en wat is dat voor een prijs?",
    "pl": "Jak można zmienić adres na fakturze, czy jest to możliwe przez konto?",
    "ru": "Как изменить адрес в счёте?",
    "el": "Πώς αλλάζω τη διεύθυνση;",
    "he": "איך משנים את הכתובת בחשבונית?",
    "ar": "كيف أغير العنوان في الفاتورة؟",
    "hi": "मैं चालान पर पता कैसे बदलूं?",
    "th": "ฉันจะเปลี่ยนที่อยู่ได้อย่างไร",
    "zh": "如何更改发票上的地址",
    "ja": "請求書の住所を変更するにはどうすればよいですか。",
    "ko": "청구서의 주소를 어떻게 변경하나요?",
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_is_known_by_its_script_or_its_small_words(language):
    assert language_of(SAMPLES[language]) == language


@pytest.mark.parametrize("text", ["", "OK", "SELECT 1", "Jane Doe, Leeds", "die the le el 12", "…"])
def test_an_unsure_language_is_none(text):
    assert language_of(text) is None


@pytest.mark.parametrize(
    ("number", "read"),
    [
        ("007", {"7"}), ("1200", {"1200"}), ("1,200", {"1200", "1.2"}), ("1.50", {"1.5"}),
        ("1.234,50", {"1234.5"}), ("1'000'000", {"1000000"}), ("1.2k", {"1.2", "1200"}),
        ("5m", {"5", "5000000"}), ("01.03.2026", {"1", "3", "2026"}), ("30.", {"30"}),
        ("0.0", {"0"}),
    ],
)  # fmt: skip
def test_a_number_is_read_in_every_way_it_may_be_meant(number, read):
    assert set(readings(number)) >= read


_ANY = st.text(max_size=300) | st.text(alphabet="a1.,[]\"“”@:/ \n(-kK+'é日", max_size=300)


@pytest.mark.parametrize("name", CHECKS)
@given(answer=_ANY, question=_ANY, source=_ANY)
def test_no_text_makes_a_check_fail_in_itself(name, answer, question, source):
    request = a_question(f"{question}.", [source])
    for case in (
        judged(answer, request=request),
        judged(answer, request=request, calls=[a_call(arguments=answer)]),
    ):
        fault = run(name, case)

        assert fault is None or fault


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize(
    "piece",
    [
        "a", "A", "1", " ", ".", "\n", "-", "@", "a@", "@a.", "[", "[1", '"', '" a b c ', "“", "1,",
        "1.", "1 ", "1-", "A1", " A", " A-1", "://", "www.", "é", "日", "\u0661", "a b. ", "(1) ",
        "1 day. 2 days. ", "x y 1 z. ", "I guarantee", "30 days", "\ud800",
    ],
)  # fmt: skip
def test_no_text_keeps_a_check_busy(name, piece):
    """64 KiB of the worst, in the answer and in the sources."""
    text = (piece * 65_536)[:65_536]
    request = a_question().model_copy(
        update={"context": a_question().context.model_copy(update={"retrieved": text})}
    )
    quickest = float("inf")
    for _ in range(2):
        case = judged(text, request=request)
        _ = case.asked.given_text, case.asked.source_text
        began = time.process_time()
        run(name, case)
        quickest = min(quickest, time.process_time() - began)

    assert quickest < 0.05

"""Signals: what the producer says wins, the rest is read off the text."""

import csv
import random
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.request.signals import TEXT_SIGNALS, measure, signal_facts, signal_words
from router.request.word_tables import MONTH, NUMBERED, TABLES, Numbers, read_table
from router.route.routing import GiveUp, route, route_fields
from schemas.codec import dump, read_model
from schemas.escalation import Classification, RouteTaken
from schemas.intake import read_request_object
from tests.builders import NOON, a_request, the_policy

#: Texts in every shipped language, with the signals that their words give away.
with Path(__file__).with_name("signal_texts.tsv").open(encoding="utf-8", newline="") as _file:
    TEXTS = [*csv.DictReader(_file, delimiter="\t", quoting=csv.QUOTE_NONE)]
SHIPPED = ("en", "de", "fr", "es")


def signals(text="How do I export invoice 4411 from the portal, as we did in May?", **fields):
    return measure(read_request_object({"task": "general", "input": text, **fields}, {}))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Please send invoice 12 to our new address", set()),
        ("This is UNACCEPTABLE, and you know it", {"angry", "vague"}),
        ("answer me!!!", {"angry"}),
        ("thank you!!", set()),
        ("We need it right now, production is down", {"urgent"}),
        ("right after lunch, now and then", set()),
        ("I want my money back.", {"money", "risky"}),
        ("**Refund** please", {"money", "risky"}),
        ("refund/chargeback", {"money", "risky"}),
        ("“Refund” 'lawyer'", {"law", "money", "risky"}),
        ("My money is at the back office", set()),
        ("Contractors illegally parked", set()),
        ("J\u2019ai mal au c\u0153ur", {"health", "risky"}),
        ("I like it, but they are late", set()),
        ("I paid 20, but the invoice says 30", {"conflicting", "disagreeing_numbers"}),
        ("I paid 20, but the invoice says 20.00", {"conflicting"}),
        ("The page shows an error 404 since the update of May 2", set()),
        ("I paid on May 2 and got the letter on May 3, but it shows 20 euros", set()),
        ("Order 991 says 20 euros, but ticket 12 says 20 euros", set()),
        ("The total doesn\u2019t match", {"conflicting"}),
        ("It doesn\u2019t work", {"vague"}),
        ("What are the trade-offs here", {"open_ended"}),
        ("please delete\nmy account", {"risky", "security"}),
        ("Ich möchte eine Rechnung für März", set()),
        ("\ud800 refund", {"money", "risky"}),
        ("Where is order 991?", set()),
    ],
)
def test_words_give_signals_away(text, expected):
    assert signals(text).text == expected


@pytest.mark.parametrize(
    ("text", "blast_radius"),
    [
        ("Please send invoice 12", "low"),
        ("This is ridiculous", "medium"),
        ("urgent: printer 7", "medium"),
        ("I will sue you", "high"),
        ("what dosage is safe", "high"),
        ("my account was hacked", "high"),
        ("delete my account", "high"),
        ("furious, I want a refund", "high"),
    ],
)
def test_the_blast_radius_is_high_for_money_law_health_and_security(text, blast_radius):
    assert signals(text).blast_radius == blast_radius


def test_vague_text_is_more_ambiguous_than_text_with_facts():
    clear = signals("How do I change the billing address on invoice 2291 in the portal, please?")
    short = signals("help please")
    vague = signals("it somehow does not work, whatever, not sure what it is, please have a look")

    assert clear.ambiguity < 0.2 < short.ambiguity < vague.ambiguity


def test_what_the_producer_sends_wins():
    measured = signals("urgent refund!!", ambiguity=0.0, blast_radius="low", complexity=5)

    assert (measured.ambiguity, measured.blast_radius, measured.complexity) == (0.0, "low", 5)
    assert measured.estimated == frozenset()


@pytest.mark.parametrize(
    ("given_fields", "estimated"),
    [
        ({}, {"ambiguity", "blast_radius", "complexity"}),
        ({"ambiguity": 0.3}, {"blast_radius", "complexity"}),
        ({"complexity": 1, "blast_radius": "low"}, {"ambiguity"}),
    ],
)
def test_what_is_estimated_is_said(given_fields, estimated):
    assert signals(**given_fields).estimated == estimated


def test_several_sources_are_two_of_documents_history_and_tools():
    assert "several_sources" not in signals(context={"retrieved": "a"}).text
    assert "several_sources" not in signals(context={"retrieved": "a", "system": "b"}).text
    assert "several_sources" in signals(context={"retrieved": "a", "history": "b"}).text


def test_tokens_are_counted_by_component():
    messages = [
        {"role": "system", "content": "s" * 40},
        {"role": "user", "content": "u" * 80},
        {"role": "assistant", "content": "a" * 120},
    ]
    measured = signals(messages, context={"user": "x" * 400, "retrieved": "r" * 4000})

    assert measured.context_tokens == {"system": 10, "user": 120, "history": 30, "retrieved": 1000}
    assert measured.total_tokens == 1160


WORDS = "word " * 2_000


@pytest.mark.parametrize(
    ("message", "body", "component"),
    [
        (
            {"tool_calls": [{"id": "c", "function": {"name": "f", "arguments": WORDS}}]},
            {},
            "history",
        ),
        ({"refusal": WORDS}, {}, "history"),
        ({}, {"tools": [{"function": {"name": "f", "description": WORDS}}]}, "tools"),
        ({}, {"functions": [{"name": "f", "description": WORDS}]}, "tools"),
        ({}, {"response_format": {"json_schema": {"description": WORDS}}}, "system"),
    ],
)
def test_what_is_sent_beside_texts_is_counted(message, body, component):
    """A plan's limit on input holds for all that a provider is sent."""
    answer = {"role": "assistant", "content": "Yes?", **message}
    asked = {"messages": [{"role": "user", "content": "Go on"}, answer], **body}

    assert signals(asked).context_tokens[component] > 2_000


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("word " * 100, 100, 150),
        ("請問我的訂單在哪裡" * 10, 60, 120),
        ("Привет, как дела? " * 10, 60, 120),
    ],
)
def test_tokens_are_estimated_for_every_script(text, least, most):
    assert least <= signals(text).total_tokens <= most


@given(st.text().map("about {}".format))
def test_any_text_has_signals_within_their_bounds(text):
    measured = signals(text)

    assert 0 <= measured.ambiguity <= 1
    assert 1 <= measured.complexity <= 5
    assert measured.blast_radius in {"low", "medium", "high"}
    assert measured.text <= set(TEXT_SIGNALS)
    assert measured == signals(text)


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=f"{row['language']}: {row['text'][:60]}") for row in TEXTS]
)
def test_the_texts_of_the_table_have_the_signals_of_the_table(row):
    assert signals(row["text"]).text == set(row["signals"].split())


@pytest.mark.parametrize("language", SHIPPED)
def test_the_table_has_every_signal_in_every_shipped_language(language):
    rows = [row for row in TEXTS if row["language"] == language]
    shown = set(" ".join(row["signals"] for row in rows).split())

    assert len(rows) >= 75
    assert shown == set(TEXT_SIGNALS) - {"several_sources"}


@pytest.mark.parametrize(
    "texts",
    [
        """
        I was charged twice for order 991
        I was billed twice for order 991
        I was debited two times for order 991
        Double charge on order 991
        My card has been charged 2x for order 991
        i got charged twise... charged double for order 991
        CHARGED TWICE FOR ORDER 991
        I was chargd... I mean chraged twice for order 991""",
        """
        Mir wurde für Bestellung 991 doppelt abgebucht
        Mir wurde fuer Bestellung 991 zweimal abgebucht
        Sie haben Bestellung 991 zwei Mal berechnet
        Doppelte Abbuchung bei Bestellung 991
        Bestellung 991 wurde zweimal belastet
        Rueckerstattung fuer Bestellung 991""",
        """
        J\u2019ai été débité deux fois pour la commande 991
        J'ai ete debite deux fois pour la commande 991
        On m'a facturé deux fois la commande 991
        Double prélèvement pour la commande 991
        J'ai payé 2 fois la commande 991""",
        """
        Me han cobrado dos veces el pedido 991
        Me cobraron el pedido 991 dos veces
        Cargo duplicado por el pedido 991
        Cobro doble del pedido 991
        Pague 2 veces el pedido 991""",
    ],
)
def test_variants_of_one_complaint_have_the_same_signals(texts):
    shown = {text: signals(text).text - {"conflicting"} for text in texts.strip().split("\n")}

    assert set(map(frozenset, shown.values())) == {frozenset({"money", "risky"})}, shown


def _spaced(text: str, dice: random.Random) -> str:
    return "".join(f" {dice.choice((' ', chr(10)))}" if sign == " " else sign for sign in text)


def _without_marks(text: str, dice: random.Random) -> str:
    return text.replace(", ", " ").rstrip(".!? ") + dice.choice(("", ".", " !"))


def _without_accents(text: str, _dice: random.Random) -> str:
    apart = unicodedata.normalize("NFKD", text)
    return "".join(sign for sign in apart if not unicodedata.combining(sign))


def _mistyped(text: str, dice: random.Random) -> str:
    """Two letters swapped, or one doubled, in a third of the long words."""
    return " ".join(
        _slipped(word, dice)
        if len(word) >= 6 and word.isalpha() and dice.random() < 1 / 3
        else word
        for word in text.split(" ")
    )


def _slipped(word: str, dice: random.Random) -> str:
    at = dice.randrange(1, len(word) - 2)
    swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return dice.choice((swapped, word[:at] + word[at] + word[at:]))


_VARIATIONS: dict[str, Callable[[str, random.Random], str]] = {
    "upper case": lambda text, _: text.upper(),
    "lower case": lambda text, _: text.lower(),
    "blanks": _spaced,
    "punctuation": _without_marks,
    "no accents": _without_accents,
    "slips of the pen": _mistyped,
    "other slips of the pen": lambda text, dice: _mistyped(text[::-1], dice)[::-1],
}


def _routes(text: str) -> Iterator[object]:
    """Where the shipped policy sends a text: guessed, where it is cheap, and where it is dear."""
    classified = Classification(task="support_answer")
    for fields in (
        {"task": None},
        {"task": "triage"},
        {"task": "general", "plan": "internal", "justification": "audit"},
    ):
        request, policy = a_request(**{**fields, "input": text}), the_policy()
        decided = route(request, policy, NOON, classification=classified)
        assert not isinstance(decided, GiveUp)
        yield decided.tier, decided.task, decided.rule, decided.needs_person


@pytest.mark.parametrize("variation", _VARIATIONS)
def test_how_a_text_is_written_flips_hardly_any_route(variation):
    """At most one route in fifty: of 300 texts, each routed in three ways."""
    dice, flipped, total = random.Random(7), [], 0
    for row in TEXTS:
        varied = _VARIATIONS[variation](row["text"], dice)
        routes = zip(_routes(row["text"]), _routes(varied), strict=True)
        flips = [f"{before} now {after}: {varied}" for before, after in routes if before != after]
        flipped += flips
        total += 3

    assert len(flipped) <= 0.02 * total, flipped


@pytest.mark.parametrize("language", sorted(TABLES))
def test_a_table_can_be_used_as_it_is_written(language):
    """A misspelt signal or a part that no text can have would be silent."""
    names = {*TEXT_SIGNALS, NUMBERED, MONTH}
    complete = {name for entry in TABLES["en"] for name in entry.signals}
    shown = {name for entry in TABLES[language] for name in entry.signals}
    for entry in TABLES[language]:
        words = [word for part in entry.parts for word in part.split("/")]
        assert set(entry.signals) <= names, entry
        assert entry.numbers in get_args(Numbers), entry
        assert all(word and " ".join(word.split()) == word for word in words), entry
        assert {NUMBERED, MONTH}.isdisjoint(entry.signals) or len(entry.parts) == 1, entry
    assert shown == complete or language not in SHIPPED
    assert {"money", "law", "health", "security"} <= shown


def test_a_table_is_read_line_by_line():
    table = """
        # a comment
        [money risky]
        refund, back + Geld/€
        as soon as possible
        [disagreeing_numbers, two numbers]
        ça"""

    assert [tuple(entry) for entry in read_table(table)] == [
        (["money", "risky"], "", ["refund"]),
        (["money", "risky"], "", ["back", "geld/€"]),
        (["money", "risky"], "", ["as soon as possible"]),
        (["disagreeing_numbers"], "two numbers", ["ca"]),
    ]


def test_an_entry_without_a_heading_is_refused():
    with pytest.raises(ValueError, match="heading such as"):
        [*read_table("refund")]


def test_a_route_is_recorded_with_its_signals_and_old_routes_have_none():
    request = a_request(input="URGENT: refund order 991", complexity=2)
    decided = route(request, the_policy(), NOON)
    assert not isinstance(decided, GiveUp)
    recorded = read_model(RouteTaken, dump(route_fields(decided, the_policy().digest, NOON)))

    assert recorded.signals is not None
    assert recorded.signals.model_dump() == signal_facts(measure(request))
    assert recorded.signals.text == ["money", "risky", "urgent"]
    assert recorded.signals.estimated == ["ambiguity", "blast_radius"]
    fields = {**route_fields(decided, the_policy().digest, NOON)}
    del fields["signals"]
    assert read_model(RouteTaken, dump(fields)).signals is None


def test_the_signals_are_a_sentence():
    assert signal_words(signal_facts(signals("URGENT: refund order 991"))) == (
        "ambiguity 0.1, blast radius high, complexity 1, about 6 tokens "
        "(estimated: ambiguity, blast_radius, complexity); the text shows money, risky, urgent"
    )

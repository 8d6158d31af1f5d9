"""Thoughts are cut out of what a model wrote, in every form, and quoted tags are not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.reply.thoughts import without_thoughts

ANSWER = "Open the menu, then choose Export."
SECRET = "The customer is wrong {and} rude."


PAIRS = [
    pytest.param(opening, end, id=f"{opening.strip()} {end.strip()}")
    for opening, end in (
        ("<think>", "</think>"),
        ("<THINK>", "</THINK>"),
        ("<thinking>", "</thinking>"),
        ("<thought>", "</thought>"),
        ("<thoughts>", "</thoughts>"),
        ("<reasoning>", "</reasoning>"),
        ("< think >", "</ think >"),
        ("<think\n>", "</think\n>"),
        ('<think effort="high" id=1>', "</think>"),
        ("<think>", "<\\/think>"),
        ("<think>", "</thinking>"),
        ("<seed:think>", "</seed:think>"),
        ("<longcat_think>", "</longcat_think>"),
        ("<antThinking>", "</antThinking>"),
        ("<scratchpad>", "</scratchpad>"),
        ("<inner_monologue>", "</inner_monologue>"),
        ("<reasoning_content>", "</reasoning_content>"),
        ("<thinking_content>", "</thinking_content>"),
        ("<internal_monologue>", "</internal_monologue>"),
        ("<|inner_prefix|>", "<|inner_suffix|>"),
        ("<|thinking|>", "<|/thinking|>"),
        ("<|think|>", "</|think|>"),
        ("<\uff5cthinking\uff5c>", "<\uff5c/thinking\uff5c>"),
        ("<|START_THINKING|>", "<|END_THINKING|>"),
        ("<|begin_of_thought|>", "<|end_of_thought|>"),
        ("<|channel>thought\n", "<channel|>"),
        ("<unused94>thought\n", "<unused95>"),
        ("[THINK]", "[/THINK]"),
        ("\u25c1think\u25b7", "\u25c1/think\u25b7"),
    )
]


@pytest.mark.parametrize("between", ["", "\n\n", " "])
@pytest.mark.parametrize(("opening", "end"), PAIRS)
def test_a_thought_is_no_part_of_the_answer(opening, end, between):
    answer, thoughts = without_thoughts(f"{opening}{SECRET}{end}{between}{ANSWER}")

    assert answer == ANSWER
    assert SECRET in thoughts


@pytest.mark.parametrize(("opening", "end"), PAIRS)
def test_an_end_alone_ends_a_thought(opening, end):
    assert without_thoughts(f"{SECRET}\n{end}\n\n{ANSWER}")[0] == ANSWER
    assert without_thoughts(f"{SECRET}{end}{ANSWER}")[0] == ANSWER


@pytest.mark.parametrize(("opening", "end"), PAIRS)
def test_a_thought_and_nothing_else_is_empty(opening, end):
    assert without_thoughts(f"{opening}{SECRET}{end}")[0] == ""
    assert without_thoughts(f" {opening}{SECRET}")[0] == ""
    assert without_thoughts(f"{ANSWER}\n{opening}{SECRET}")[0] == ANSWER


@pytest.mark.parametrize("between", ["", "\n\n", " "])
@pytest.mark.parametrize(
    "name", ["reflection", "REFLECTION", "self_reflection", "reflecting", "reason", "deliberation"]
)
def test_what_a_reply_begins_with_is_a_thought_by_weaker_names_too(name, between):
    block = f"<{name}>{SECRET}</{name}>"

    assert without_thoughts(f"{block}{between}{ANSWER}") == (ANSWER, block)
    assert without_thoughts(f" {block}{between}<think>x</think>{block}\n{ANSWER}")[0] == ANSWER
    assert without_thoughts(f"<think>x</think>{between}{block}{between}{ANSWER}")[0] == ANSWER
    assert without_thoughts(f"{block}{between}<output>{ANSWER}</output>")[0] == ANSWER
    assert without_thoughts(block)[0] == without_thoughts(f"<{name}>{SECRET}")[0] == ""
    # Spoken of behind it, and within it.
    answer = f"Models write <{name}>x</{name}> first."
    assert without_thoughts(f"{block}{between}{answer}")[0] == answer
    assert without_thoughts(answer) == (answer, "")
    assert without_thoughts(f"<{name}>a <{name}> b</{name}>{ANSWER}")[0] == ANSWER


@pytest.mark.parametrize("name", ["analysis", "PLAN", "planning", "critique"])
def test_a_part_of_an_answer_is_a_thought_where_the_answer_is_marked(name):
    block = f"<{name}>{SECRET}</{name}>"

    marked = f"<solution>{ANSWER}</solution>"
    assert without_thoughts(f"<plan>x</plan>\n{block}\n{marked}")[0] == ANSWER
    assert without_thoughts(f"<reflection>x</reflection>{block}{marked}")[0] == ANSWER
    for kept in (f"{block}\n<summary>{ANSWER}</summary>", f"{block}{ANSWER}", f"<{name}>x", block):
        assert without_thoughts(kept) == (kept, "")
        assert without_thoughts(f"<reflection>x</reflection>{kept}")[0] == kept


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        pytest.param(f"```thinking\n{SECRET}\n```\n\n{ANSWER}", ANSWER, id="in a block of code"),
        pytest.param(f"<think></think><reason>a</reason>{ANSWER}", ANSWER, id="behind a blank one"),
        pytest.param("<reflection>" * 500, "", id="asides without end"),
        pytest.param("<reason>a</reason>" * 500 + ANSWER, "", id="too many asides"),
        pytest.param(f"<think>a<think>b</think>c</think>{ANSWER}", ANSWER, id="one in another"),
        pytest.param(f"<think>a <think> b</think>{ANSWER}", ANSWER, id="a tag spoken of in it"),
        pytest.param(f'<think>say "</think>" ok</think>{ANSWER}', ANSWER, id="an end quoted in it"),
        pytest.param("<think>a</think>One.<think>b</think> Two.", "One. Two.", id="two of them"),
        pytest.param(f"a</think>b</think>{ANSWER}", ANSWER, id="two ends"),
        pytest.param(f"<think/>{ANSWER}", ANSWER, id="none"),
        pytest.param(f"<think>\n\n</think>\n\n{ANSWER}", ANSWER, id="a blank one"),
        pytest.param(f"```\n<think>{SECRET}</think>\n{ANSWER}\n```", ANSWER, id="fenced"),
        pytest.param(f"```\n{SECRET}\n</think>\n{ANSWER}", ANSWER, id="a fence left open in it"),
        pytest.param(f"<think>x</think><answer>{ANSWER}</answer>", ANSWER, id="a marked answer"),
        pytest.param(
            f"<|START_THINKING|>x<|END_THINKING|><|START_RESPONSE|>{ANSWER}<|END_RESPONSE|>",
            ANSWER,
            id="a marked answer of Command",
        ),
        pytest.param(f"Put it in <think> and {SECRET}", "", id="nobody can say what is answer"),
        pytest.param("<think>" * 500, "", id="without end"),
        pytest.param(f"<think>a</think>{'<a' * 15_001}", "", id="too many openings"),
        pytest.param(f"<reason>a</reason>{'<a' * 15_001}", "", id="too many behind an aside"),
        pytest.param(
            f"<think>{SECRET}</think>{ANSWER}{'<td>1</td>' * 2_000}",
            f"{ANSWER}{'<td>1</td>' * 2_000}",
            id="many elements",
        ),
        pytest.param(
            f"Thinking...\n{SECRET}\n...done thinking.\n\n{ANSWER}", ANSWER, id="in words"
        ),
        pytest.param(
            f"Here is my thought process: {SECRET} Here is my response: {ANSWER}",
            ANSWER,
            id="announced",
        ),
        pytest.param(
            f"Here are my reasoning steps:\n{SECRET}\n[BEGIN FINAL RESPONSE]\n{ANSWER}\n"
            "[END FINAL RESPONSE]",
            ANSWER,
            id="announced in brackets",
        ),
        pytest.param(f"analysisWe say so.assistantfinal{ANSWER}", ANSWER, id="harmony in words"),
        pytest.param("analysisWe say so.", "", id="harmony's thought in words"),
        pytest.param(f"analysiswe say so.assistantfinal{ANSWER}", ANSWER, id="in lower case"),
        pytest.param("analysiswe say so.", "", id="in lower case, alone"),
        pytest.param(
            f"analysis\nWe say so.\nassistantfinal\n{ANSWER}", ANSWER, id="harmony in lines"
        ),
        pytest.param(f"assistantfinal{ANSWER}", ANSWER, id="harmony's answer alone"),
        pytest.param(
            f'<details type="reasoning" done="true" duration="3">\n<summary>Thought for 3 seconds'
            f"</summary>\n> {SECRET} <details>more</details> <think>\n</details>\n{ANSWER}",
            ANSWER,
            id="folded by Open WebUI",
        ),
        pytest.param(
            f"<details><summary>Thought process</summary>{SECRET}</details>{ANSWER}",
            ANSWER,
            id="folded by a summary",
        ),
        pytest.param(
            f"<think>{SECRET} <details></details></think>{ANSWER}", ANSWER, id="a fold in a thought"
        ),
        pytest.param(
            f'<details type="reasoning" done="false">{SECRET}', "", id="a fold without an end"
        ),
        pytest.param(
            f"<details type='reasoning'>{SECRET}</details>A <details><summary>Steps</summary>1"
            "</details> B",
            "A <details><summary>Steps</summary>1</details> B",
            id="a fold of the answer stays",
        ),
        pytest.param(
            f"<|channel|>analysis<|message|>{SECRET}<|end|><|start|>assistant"
            f"<|channel|>final<|message|>{ANSWER}<|return|>",
            ANSWER,
            id="harmony",
        ),
        pytest.param(
            f"{SECRET}<|end|><|start|>assistant"
            f"<|channel|>final <|constrain|>json<|message|>{ANSWER}",
            ANSWER,
            id="harmony from the middle",
        ),
        pytest.param(f"final<|message|>{ANSWER}<|return|>", ANSWER, id="harmony's answer alone"),
        pytest.param(f"<|think|>{SECRET}<|end|>", "", id="a thought that ends a turn"),
        pytest.param(
            f"<|think|>{SECRET}<|end|><|begin|>assistant<|content|>{ANSWER}<|flush|>",
            ANSWER,
            id="Solar",
        ),
        pytest.param(
            f"<|channel|>final<|message|><think>{SECRET}</think>{ANSWER}<|return|>",
            ANSWER,
            id="harmony with a tag in its answer",
        ),
        pytest.param("<think>x</think><answer>a</answer> b", "<answer>a</answer> b", id="more"),
        pytest.param(f"<|channel|>analysis<|message|>{SECRET}", "", id="harmony's thought alone"),
    ],
)
def test_odd_thoughts(text, answer):
    assert without_thoughts(text)[0] == answer


@pytest.mark.parametrize(
    "text",
    [
        ANSWER,
        "",
        '{"answer": "<think>quoted</think>", "n": 1}',
        '{"answer": "ends with </think>"}',
        'Sure: {"answer": "put <think> before it"} Good luck!',
        '["<think>", "</think>"]',
        "The tag `<think>` begins a thought.",
        "`<think>a</think>` is how R1 writes.",
        'Write "<think>" first.',
        "Like so:\n```\n<think>\nreasoning\n</think>\n```\nThat is all.",
        "Like so:\n~~~text\n</think>\n~~~\nThat is all.",
        "Wrap it in <think>...</think> tags.",
        "It stands between <think> and </think> as a rule.",
        "See [thinking](https://example.com) and [reasoning][1].",
        "<thinker>is another tag</thinker>",
        "Set<Reflection> all = find(); Map<Reason, Plan> why;",
        "```xml\n<reflection>a</reflection>\n```\nThat is all.",
        "The tag `<reflection>` begins a thought.",
        '{"answer": "<reflection>quoted</reflection>"}',
        "Analysis shows: assistantfinal is a word.",
        "a < b and c > d, I think",
        "analysis of the text: it is short",
        "<details><summary>Steps</summary>I think so</details> and </details>",
        'Write `<details type="reasoning">` first.',
    ],
)
def test_what_is_quoted_or_spoken_of_stays(text):
    assert without_thoughts(text) == (text, "")


ASIDES = st.lists(
    st.sampled_from(["<plan>", "</plan>", "<reason>", "</reason>", "<think>", "</think>", "a", " "])
).map("".join)


@given(st.text(st.sampled_from('<>/think"`{}\n| [THINK]~a'), max_size=80) | st.text() | ASIDES)
def test_no_text_is_too_strange(text):
    answer, thoughts = without_thoughts(text)

    assert len(answer) <= len(text)
    assert thoughts or answer == text or len(answer) < len(text)

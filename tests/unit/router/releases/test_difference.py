"""The difference of two releases, in the words of a product manager."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from router.policy.load import load_policy
from router.policy.table import Policy
from router.policy.yaml_text import read_yaml
from router.releases.difference import differences
from tests.builders import POLICY_FILE, the_policy

_TIMES = "\N{MULTIPLICATION SIGN}"
_PROMPTS = {
    path.relative_to("deploy/prompts").as_posix(): path.read_text(encoding="utf-8")
    for path in sorted(Path("deploy/prompts").rglob("*"))
    if path.is_file()
}


def changed(edit: Callable[[Any], object]) -> Policy:
    """The shipped policy with an edit of its content."""
    content = deepcopy(read_yaml(POLICY_FILE.read_text(encoding="utf-8"))[0])
    edit(content)
    return Policy.of_file(content)


def _reprice(content: Any, **factors: int) -> None:
    price = content["models"]["sim-small"]["price"]
    for kind, factor in factors.items():
        price[kind] = str(round(float(price[kind]) * factor, 6))


def _swap(content: Any) -> None:
    rules = content["rules"]
    rules[0], rules[1] = rules[1], rules[0]


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (
            lambda new: new["tasks"]["extraction"].update(tier="balanced", escalation=["premium"]),
            [
                "extraction now starts at balanced (was low)",
                "extraction now climbs to premium (was balanced, then premium)",
            ],
        ),
        (
            lambda new: _reprice(new, input=9, output=9),
            [
                f"price of sim-small {_TIMES}9: input $0.9 per million tokens (was $0.1)",
                f"price of sim-small {_TIMES}9: output $3.6 per million tokens (was $0.4)",
            ],
        ),
        (
            lambda new: _reprice(new, output=2),
            [
                f"price of sim-small {_TIMES}2: output $0.8 per million tokens (was $0.4)",
            ],
        ),
        (
            lambda new: new["models"]["sim-small"]["price"].update(cache_read="0.01"),
            ["model sim-small price: cache read is now 0.01 (was nothing)"],
        ),
        (lambda new: new["rules"].pop(0), ["rule high_blast_radius is gone"]),
        (
            lambda new: new["rules"].append(
                {"name": "late", "when": {"plans": ["free"]}, "tier": "low", "reason": "late"}
            ),
            ["rule late is new: When the plan is free, a request starts at least at low: late."],
        ),
        (
            lambda new: new["tasks"]["triage"].update(approval="person"),
            ["task triage: approval is now person (was none)"],
        ),
        (
            lambda new: new["tasks"]["triage"].update(deadline="5m"),
            ["task triage: deadline is now 0:05:00 (was 0:02:00)"],
        ),
        (
            lambda new: new["tasks"]["triage"].update(
                checks=["empty", {"length": {"most_words": 9}}]
            ),
            None,
        ),
        (lambda new: new["tiers"]["low"].update(accept=0.8), None),
        (
            lambda new: new["tiers"]["low"].update(models=["sim-small-b"]),
            ["tier low: models is now sim-small-b (was sim-small, then sim-small-b)"],
        ),
        (
            lambda new: new["limits"].update(attempts=4),
            ["limits: attempts is now 4 (was 6)"],
        ),
        (lambda new: new.pop("classify"), ["classify is gone"]),
        (lambda new: new["formats"]["label"].update(title="x"), ["format label has changed"]),
        (lambda new: new.update(owner="somebody else"), None),
        (lambda new: new.update(version="9", examples=[]), []),
    ],
)
def test_a_change_is_a_sentence(edit: Callable[[Any], object], words: list[str] | None) -> None:
    found = differences(the_policy(), changed(edit), _PROMPTS, _PROMPTS)

    if words is None:
        [line] = found
        assert " now " in line
    else:
        assert found == words


def test_rules_in_another_order_are_told() -> None:
    first, second = (rule.name for rule in the_policy().rules[:2])
    assert differences(the_policy(), changed(_swap), _PROMPTS, _PROMPTS) == [
        f"rule {second} now comes before {first}: the first that fits wins"
    ]


def test_a_task_or_a_model_comes_and_goes() -> None:
    def edit(new: Any) -> None:
        new["tasks"]["chat"] = new["tasks"].pop("rewrite")
        new["models"]["spare"] = new["models"]["sim-large"]

    found = differences(the_policy(), changed(edit), _PROMPTS, _PROMPTS)

    assert found == ["model spare is new", "task rewrite is gone", "task chat is new"]
    back = differences(changed(edit), the_policy(), _PROMPTS, _PROMPTS)
    assert back == ["model spare is gone", "task chat is gone", "task rewrite is new"]


def _edited(path: str, old: str, new: str) -> Mapping[str, str]:
    assert old in _PROMPTS[path]
    return {**_PROMPTS, path: _PROMPTS[path].replace(old, new, 1)}


@pytest.mark.parametrize(
    ("prompts", "words"),
    [
        (
            _edited("billing_dispute/contract.yaml", "version: 1", "version: 4"),
            "the prompt of billing_dispute is now version 4 (was 1)",
        ),
        (
            _edited("_default/low.j2", "\n", "\nBe brief.\n"),
            "the default prompt for low has changed",
        ),
        (
            {path: text for path, text in _PROMPTS.items() if not path.startswith("brief/")},
            "the prompt of brief is gone",
        ),
    ],
)
def test_a_change_of_a_prompt_is_a_sentence(prompts: Mapping[str, str], words: str) -> None:
    [line] = differences(the_policy(), the_policy(), _PROMPTS, prompts)

    assert line.startswith(words)


def test_equal_releases_do_not_differ() -> None:
    again = load_policy(POLICY_FILE.read_text(encoding="utf-8"), "again")
    assert differences(the_policy(), again, _PROMPTS, dict(_PROMPTS)) == []

"""The design rules that can be computed: tokens in both themes, and the contrast of every pair."""

import re
from importlib.resources import files

import pytest

_CSS = (files("consumers.console") / "static" / "console.css").read_text(encoding="utf-8")
_BLOCK = re.compile(r":root\s*\{([^}]*)\}")
_TOKEN = re.compile(r"(--[\w-]+):\s*([^;]+);")
_COLOUR = re.compile(r"#[0-9a-f]{3}(?:[0-9a-f]{3})?\b")

_LIGHT, _DARK = (dict(_TOKEN.findall(block)) for block in _BLOCK.findall(_CSS)[:2])
_THEMES = {"light": _LIGHT, "dark": {**_LIGHT, **_DARK}}

_SURFACES = ("--back", "--card", "--raised")
_MEANINGS = ("--good", "--warn", "--bad", "--low", "--balanced", "--premium")
_TEXTS = [
    *((text, ground) for text in ("--text", "--soft", "--link") for ground in _SURFACES),
    *((text, ground) for text in _MEANINGS for ground in (*_SURFACES, f"{text}-back")),
    *((text, "--main-back") for text in ("--text", "--soft", "--link")),
    *(("--text", ground) for ground in ("--ins", "--del")),
    ("--on-main", "--main"),
]
#: What is no text: the edges of controls, the mark of the focus, a filled button.
_EDGES = [(edge, on) for edge in ("--edge", "--focus", "--main") for on in ("--back", "--card")]


def _luminance(colour: str) -> float:
    digits = colour.removeprefix("#")
    if len(digits) == 3:
        digits = "".join(2 * digit for digit in digits)
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", _THEMES)
@pytest.mark.parametrize(("pairs", "least"), [(_TEXTS, 4.5), (_EDGES, 3.0)], ids=["text", "edges"])
def test_every_pair_of_colours_stands_apart(
    theme: str, pairs: list[tuple[str, str]], least: float
) -> None:
    tokens = _THEMES[theme]
    faint = {
        pair: round(ratio, 2)
        for pair in pairs
        if (ratio := _contrast(tokens[pair[0]], tokens[pair[1]])) < least
    }
    assert faint == {}


def test_every_colour_is_a_token_that_both_themes_have() -> None:
    rules = _BLOCK.sub("", _CSS)
    assert _COLOUR.findall(rules) == []
    coloured = {name for name, value in _LIGHT.items() if value.startswith("#")}
    assert coloured == {name for name, value in _DARK.items() if value.startswith("#")}
    assert set(re.findall(r"var\((--[\w-]+)", _CSS)) <= _LIGHT.keys()


def test_rules_name_start_and_end_so_that_pages_can_be_mirrored() -> None:
    sides = r"(?:margin|padding|border)-(?:left|right)\b|text-align: (?:left|right)"
    assert re.findall(rf"{sides}|[ {{;](?:left|right):", _CSS) == []


def test_all_motion_stands_where_readers_have_not_asked_for_less() -> None:
    still = re.sub(
        r"@media \(prefers-reduced-motion: no-preference\) \{.*?\n\}", "", _CSS, flags=re.DOTALL
    )
    assert re.findall(r"\b(?:transition|animation)\b[^;]*", still) == []

"""Texts that make a reader of texts slow, made from the patterns that the reader looks for."""

import random
import re
from collections.abc import Iterator, Sequence

# The parser of `re`, the one way to learn which words a pattern names.
from re import _constants as ops  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from types import ModuleType
from typing import Any

__all__ = ["hostile_json", "hostile_texts", "once_slow", "tokens_of"]

#: What formats, quotations, numbers and scripts are made of, whoever reads them.
_EVERYWHERE = (
    *"{}[]()<>\"'`*_-.,:;!?/\\@#|&=+~$%^ \n\t\r",
    *(
        "```",
        "``",
        "````",
        "```json\n",
        '{"a":',
        '{"',
        '":"',
        "[[",
        "]]",
        "[1]",
        "[1] ",
        "1. ",
        "</",
    ),
    *("<think>", "</think>", "<reasoning>", "\\u", "\\ud800", "\\\\", '\\"', "\r\n", "\n\n", "\n "),
    *(
        "1",
        "12",
        "0",
        "9" * 30,
        "1,234",
        "1.5",
        "1 ",
        "1.",
        "1k",
        "2026-01-02",
        "2026-",
        "12:30",
        "am",
    ),
    *(
        "a",
        "A",
        "Ab ",
        "a ",
        "the ",
        "I can't ",
        "sorry, ",
        "www.",
        "://",
        "a@",
        "a@b.c ",
        "x@y",
        "AB-1",
    ),
    *(
        "\u0130",
        "\u00df",
        "\ufb03",
        "a\u0301",
        "\u0301",
        "\u200b",
        "\u00a0",
        "\u2028",
        "\u0661",
        "\uff11",
    ),
    *(
        "\u201c",
        "\u201d",
        "\u201ea b c",
        "\u00ab",
        "\u4e00",
        "\u3042",
        "\U0001f600",
        "\u202e",
        "\x00",
        "\x1c",
    ),
)
_RUNS = "aA1 -_.`\"'{\n,/\u0301\u4e00"


def tokens_of(module: ModuleType) -> Sequence[str]:
    """What the patterns of a module match: whole, and cut off behind each of their parts."""
    found: dict[str, None] = {}
    for value in vars(module).values():
        for one in value if isinstance(value, (list, tuple)) else (value,):
            for pattern in one if isinstance(one, tuple) else (one,):
                if isinstance(pattern, re.Pattern):
                    text = pattern.pattern
                    text = text.decode("latin-1") if isinstance(text, bytes) else text
                    found.update(dict.fromkeys(_samples(parser.parse(text, pattern.flags & ~32))))
    return [token for token in found if token]


def hostile_texts(tokens: Sequence[str], length: int, many: int, seed: str) -> Iterator[str]:
    """So many texts of about that length, the same ones each time."""
    dice = random.Random(seed)
    own = list(dict.fromkeys(tokens))
    everything = list(dict.fromkeys((*own, *_EVERYWHERE)))

    def pick() -> str:
        # Half of the time what the reader itself looks for.
        tokens = own if own and dice.random() < 0.5 else everything
        return tokens[dice.randrange(len(tokens))]

    def times(text: str, share: float = 1.0) -> str:
        return text * max(int(length * share) // len(text), 1)

    # Each token alone, then in company.
    alone = [times(token) for token in (*own, *_EVERYWHERE)]
    dice.shuffle(alone)
    yield from alone[: many // 3]
    for no in range(many - min(len(alone), many // 3)):
        one, other, run = pick(), pick(), dice.choice(_RUNS)
        match no % 8:
            case 0:
                yield one + times(run)
            case 1:
                yield times(one + other)
            case 2:
                yield times(one, 0.5) + times(other, 0.5)
            case 3:
                yield times(one + run * dice.randrange(1, 80))
            case 4:
                yield times(run, 0.5) + one + times(run, 0.5)
            case 5:
                yield times(one + dice.choice(" \n-.")) + other
            case 6:
                yield times("".join(pick() for _ in range(12)))
            case _:
                pool = [pick() for _ in range(4)]
                pieces = (f"{dice.choice(pool)}{dice.randrange(10**4)}" for _ in range(length // 8))
                yield "".join(pieces)[:length]


def once_slow(length: int) -> Iterator[str]:
    """Texts that have taken seconds or minutes before."""
    yield "```" + "a" * length
    yield "```" + "a " * (length // 2)
    yield "```a\t" * (length // 5) + "`"
    yield "-eyJ" * (length // 4)
    yield "-eyJaaaaaaaa" * (length // 12)
    yield "-----BEGIN PRIVATE KEY-----\n" * (length // 28)
    yield '{"a":[' + "1," * (length // 2) + "x"
    yield '{"a":{' * (length // 6) + "x}"
    yield "a@" * (length // 2)
    yield "".join(f"{no}a " for no in range(length // 6))
    yield "".join(f"Xa{no}b. " for no in range(length // 8))
    for begins in ("<think>", "<reason>", "<reason>a</reason>b "):
        for unit in ("<", "</", "<a", "<|", "<think", "<\t\treason", '<{"'):
            yield begins + unit * (length // len(unit))


def hostile_json(length: int) -> Iterator[str]:
    """JSON of about that length that is dear to read, and the same with a mistake in it."""
    units = (
        *("1", "-1", "1.5", "1e5", "null", "true", '""', '"a"', "[]", "{}", '{"a":1}', "[[]]"),
        *('{"a":{}}', '"\\\\"', '"\\u0041"', '"\\ud83d\\ude00"', '"\\n"', "0.1234567890123456789"),
        *("9007199254740993", "9223372036854775807", '"\u00e9"', "[1,[2,[3]]]", '{"a":[],"b":""}'),
        *("[" * 20 + "]" * 20, '{"a":' * 20 + "1" + "}" * 20),
    )
    for unit in units:
        many = length // (len(unit) + 1)
        inner = ",".join([unit] * many)
        yield f'{{"a":[{inner}]}}'
        yield f"[{inner}]"
        for end in (
            "",
            ",]}",
            "]x",
            ",NaN]}",
            ",1e999]}",
            f",{'9' * 5000}]}}",
            '],"a":1}',
            ',"\\ud800"]}',
        ):
            yield f'{{"a":[{inner}{end}'
        keys = length // (len(unit) + 10)
        fields = ",".join(f'"k{no:05}":{unit}' for no in range(keys))
        yield f"{{{fields}}}"
        yield f'{{{fields},"k00001":1}}'
    yield '{"a":' * (length // 5)
    yield "[" * length
    yield '{"a":"' + "\\\\" * (length // 2) + '"}'
    yield '{"a":"' + '\\"' * (length // 2) + '"}'
    yield "9" * length
    yield f'{{"a":{"9" * length}}}'
    yield f'{{"a":-0.{"9" * length}e{"9" * 100}}}'


def _samples(parsed: Any) -> Iterator[str]:
    so_far = ""
    for op, value in parsed:
        before = so_far
        for no, piece in enumerate(_pieces(op, value)):
            yield before + piece
            if no == 0:
                so_far = before + piece


def _pieces(op: Any, value: Any) -> Sequence[str]:  # noqa: PLR0911  one by kind
    """What one part of a pattern matches, the likeliest first."""
    if op is ops.LITERAL:
        return [chr(value)]
    if op is ops.NOT_LITERAL:
        return ["x" if value != ord("x") else "y"]
    if op is ops.ANY:
        return ["x"]
    if op is ops.IN:
        return _of_class(value)
    if op is ops.BRANCH:
        return [sample for branch in value[1] for sample in list(_samples(branch))[-1:]]
    if op is ops.SUBPATTERN:
        return list(_samples(value[-1]))[::-1][:4] or [""]
    if op is ops.ATOMIC_GROUP:
        return list(_samples(value))[::-1][:4] or [""]
    if op in (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT):
        least, most, inner = value
        one = (list(_samples(inner)) or [""])[-1]
        counts = dict.fromkeys(
            (max(least, 1), least + 1, min(int(most), least + 40), max(least - 1, 0))
        )
        return [one * count for count in counts]
    return [""]  # a place, a look around, an earlier group


def _of_class(members: Any) -> Sequence[str]:
    found = []
    for op, value in members:
        if op is ops.NEGATE:
            return ["x", " "]
        if op is ops.LITERAL:
            found.append(chr(value))
        elif op is ops.RANGE:
            found += [chr(value[0]), chr(value[1])]
        elif op is ops.CATEGORY:
            found.append({"CATEGORY_DIGIT": "1", "CATEGORY_SPACE": " "}.get(str(value), "a"))
    return found[:4]

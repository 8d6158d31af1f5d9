"""What a regular expression costs on an engine that is linear in the text.

Such an engine keeps every position of the pattern that the text may have reached, and looks at all
of them for each character. So a character costs as much as there can be positions.
"""

import re

__all__ = ["is_wide", "positions"]

_MOST = 1 << 20
_REPEATED = re.compile(r"\{(\d*)(?:,(\d*))?\}")
#: Characters that the engine may not read as structure: the pattern can be read in two ways.
_UNCERTAIN = re.compile(r"\[[^\]]*[()\[]|\[\^?\]|&&|--|\(\?[a-zA-Z-]*x")
_WIDE = re.compile(r"\.|\[\^|\\[pPSWDu]|\(\?[a-z]*i|[^\x00-\x7f]")


def is_wide(pattern: str) -> bool:
    """True for a pattern with classes beyond ASCII, which make the compiled engine large."""
    return _WIDE.search(pattern) is not None


def positions(pattern: str) -> int:
    """The most positions of a pattern that a search can be in: its length with repeats written out.

    Exact for groups and counts. Where brackets can be read in two ways, all counts are multiplied.
    """
    counts = [_count(match) for match in _REPEATED.finditer(pattern)]
    if _UNCERTAIN.search(pattern) or ("\\" in pattern and re.search(r"\\[()\[\]{}]", pattern)):
        total = len(pattern)
        for count in counts:
            total = min(total * count, _MOST)
        return total + 1
    groups, last, at = [0], 0, 0
    while at < len(pattern):
        sign = pattern[at]
        repeated = _REPEATED.match(pattern, at) if sign == "{" else None
        at = repeated.end() if repeated else at + 1
        if repeated:
            groups[-1] = min(groups[-1] + last * (_count(repeated) - 1), _MOST)
            last = min(last * _count(repeated), _MOST)
        elif sign == "(":
            groups.append(0)
        elif sign == ")" and len(groups) > 1:
            last = groups.pop()
            groups[-1] += last
        elif sign not in "*+?":
            last = 1
            groups[-1] += 1
    return min(sum(groups), _MOST) + 1


def _count(repeated: re.Match[str]) -> int:
    return max((1, *(int(text[:6]) for text in repeated.groups() if text)))

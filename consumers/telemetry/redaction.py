"""Replaces text in the form of a secret or an address before it is captured. No I/O.

Names of people have no form to find, so they stay.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

__all__ = ["MOST_REDACTED", "PATTERNS", "Pattern", "redact"]

#: Characters of one text that are kept and searched; the rest is left out.
MOST_REDACTED = 20_000
#: Characters dropped at the end of a long text without blanks: a secret may be cut in two there.
_LONGEST_CUT = 500


class Pattern(NamedTuple):
    """A form to look for, and its replacement."""

    name: str
    #: A text without any of these, in any case, cannot match; empty: always search.
    needs: Sequence[str]
    pattern: re.Pattern[str]
    replacement: str | Callable[[re.Match[str]], str]


def _form(name: str, needs: str, pattern: str) -> Pattern:
    return Pattern(name, needs.split(), re.compile(pattern), f"[{name}]")


def _if_complete(name: str) -> Callable[[re.Match[str]], str]:
    """Replace a match only if it has its first group.

    Such a pattern also matches a beginning that turns out to be no secret, to read it only once.
    """
    return lambda match: match[0] if match[1] is None else f"[{name}]"


#: `password`, also as the end of `dbPassword`, and with more after it: `secret_access_key`,
#: `tokenValue`. The first letter comes apart because the search is fastest for a plain set.
_NAMED = (
    r"(?:[PpSsTtCcAa](?i:assword|asswd|assphrase|ecret|oken|redential"
    r"|(?:pi|ccess|rivate|ccount)[_-]?key|(?<=p)wd)[\w-]{0,32}+|[_-](?i:pass)\b)"
)
_QUOTE = r"\\?[\"']?"
_IS = rf"{_QUOTE}\s{{0,3}}[:=]\s{{0,3}}"
_BASE64 = "[A-Za-z0-9/+]"
_MORE = r"(?:[ -]?\d{2,4}){1,2}"

_KINDS = (re.compile("[a-z]"), re.compile("[A-Z]"), re.compile("[0-9]"))


def _if_mixed(match: re.Match[str]) -> str:
    return "[secret]" if all(kind.search(match[0]) for kind in _KINDS) else match[0]


#: In the order of the search: the longer and more certain ones first.
#:
#: Each takes time in proportion to the text: an unlimited repetition ends the pattern or stops
#: where no other match can begin, and all others have a limit. A literal comes first where there
#: is one, since a search for it is ten times as fast, and looks back at what must not precede it.
PATTERNS: Sequence[Pattern] = (
    # Up to the key's end, to the next line of dashes, or to the end of the text.
    _form(
        "private_key",
        "",
        r"-----BEGIN [A-Z ]{0,32}?PRIVATE KEY-----(?:[^-]|-(?!----)){0,8192}+"
        r"(?:-----END [A-Z ]{0,32}?PRIVATE KEY-----|(?=-----)|\Z)",
    ),
    Pattern(
        "jwt",
        (),
        re.compile(r"eyJ(?<!\weyJ)[\w-]{8,}+(\.[\w-]{8,}+\.[\w-]*+)?"),
        _if_complete("jwt"),
    ),
    _form("bearer", "bearer basic", r"(?i)\b(?:bearer|basic)\s++[\w.~+/=-]{12,}"),
    _form(
        "bearer",
        "authorization",
        rf"(?i)\bauthorization{_IS}{_QUOTE}\w{{1,16}} [\w.~+/=-]{{8,}}",
    ),
    # Up to the last @ before the host: a password may hold one.
    Pattern(
        "url_password",
        (),
        re.compile(r"://[^\s/:@]{1,256}:[^\s/]{1,256}(?=@)"),
        "://[url_password]",
    ),
    _form("api_key", "k- k_", r"[spr]k[-_](?<!\w[spr]k[-_])[\w-]{16,}"),
    _form("api_key", "", r"AIza(?<!\wAIza)[\w-]{30,}"),
    _form("api_key", "kia sia", r"A[KS]IA(?<!\wA[KS]IA)[0-9A-Z]{16}\b"),
    _form("api_key", "", r"gh[pousr]_(?<!\wgh[pousr]_)\w{20,}"),
    _form("api_key", "", r"github_pat_(?<!\wgithub_pat_)\w{20,}"),
    _form("api_key", "", r"glpat-(?<!\wglpat-)[\w-]{16,}"),
    _form("api_key", "", r"xox[abeoprs]-(?<!\wxox[abeoprs]-)[\w-]{10,}"),
    _form("api_key", "", r"xapp-(?<!\wxapp-)[\w-]{10,}"),
    _form("api_key", "_v1_", r"do[opr]_v1_(?<!\wdo[opr]_v1_)[0-9a-f]{32,}"),
    _form("api_key", "", r"hf_(?<!\whf_)[A-Za-z0-9]{20,}"),
    _form("api_key", "", r"npm_(?<!\wnpm_)[A-Za-z0-9]{30,}"),
    _form("api_key", "", r"whsec_(?<!\wwhsec_)[\w+/=-]{16,}"),
    _form("api_key", "", r"SG\.(?<!\wSG\.)[\w-]{16,}+\.[\w-]{16,}"),
    _form("api_key", "", r"ya29\.(?<!\wya29\.)[\w-]{20,}"),
    _form("api_key", "", r"hooks\.slack\.com/services/[\w/]{16,}"),
    _form(
        "secret",
        "passw passphrase pwd secret token credential key _pass -pass",
        rf"{_NAMED}{_IS}(?:\\?\"[^\"\\]{{4,256}}|'[^']{{4,256}}|{_QUOTE}[^\s\"',;\\]{{4,}})",
    ),
    # The form of an AWS secret: 40 characters of base64 with all three kinds in them.
    Pattern(
        "secret",
        (),
        re.compile(rf"(?<![\w/+=-]){_BASE64}{{40}}(?![\w/+=-])"),
        _if_mixed,
    ),
    _form("email", "@", r"(?<![\w.+-])[\w.+-]{1,64}+@[\w-]{1,63}(?:\.[\w-]{1,63}){1,6}"),
    _form(
        "iban",
        "",
        r"[A-Z](?<!\w[A-Z])[A-Z]\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b",
    ),
    _form("card", "", r"\d(?<![\d-]\d)[ -]?(?:\d[ -]?){11,17}\d(?![\d-])"),
    _form("ssn", "-", r"\d(?<![\d-]\d)\d{2}-\d{2}-\d{4}(?![\d-])"),
    _form("phone", "+ 00", r"(?<![\w+])(?:\+|00)\d{1,3}(?:[ ./()-]{0,2}\d){6,12}(?!\d)"),
    _form("phone", "", r"(?<![\w-])\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}(?![\w-])"),
    # National numbers with their trunk zero: 030 1234567, 0171/1234567, 020 7946 0958.
    _form(
        "phone",
        "0",
        rf"(?<![\w.,:/-])\(?0[1-9]\d{{1,4}}\)?[ /-]{{1,3}}\d{{3,4}}{_MORE}(?![\w-])",
    ),
    _form("ip_address", ".", r"\d(?<![\w.]\d)\d{0,2}\.(?:\d{1,3}\.){2}\d{1,3}(?![\w.])"),
    _form("ip_address", ":", r"(?i)(?<![\w:])(?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}(?![\w:])"),
    _form(
        "ip_address",
        "::",
        r"(?i)(?<![\w:])(?:[0-9a-f]{1,4}:){1,6}(?::[0-9a-f]{1,4}){1,6}(?![\w:])",
    ),
)


def redact(text: str) -> str:
    """The text with a pattern's name in brackets in place of each match.

    Of a long text only the first 20,000 characters stay, with a note of how many more there were.
    """
    left_out = len(text) - MOST_REDACTED
    if left_out > 0:
        text = _whole_words(text[:MOST_REDACTED])
    lower = text.lower()
    for _, needs, pattern, replacement in PATTERNS:
        if not needs or any(need in lower for need in needs):
            text = pattern.sub(replacement, text)
    return f"{text} [{left_out} more characters]" if left_out > 0 else text


def _whole_words(text: str) -> str:
    """Text without its last word, which may be half of a secret that no pattern finds any more."""
    words = text.rsplit(maxsplit=1)
    is_spaced = len(words) == 2 and len(words[0]) > len(text) // 2
    return words[0] if is_spaced else text[:-_LONGEST_CUT]

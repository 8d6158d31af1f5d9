"""What has the form of a secret or an address, replaced before anything is captured. No I/O.

Names of people have no form, so they stay.
"""

import re
from collections.abc import Sequence

__all__ = ["PATTERNS", "redact"]

_KEY_BEGINS = r"-----BEGIN [A-Z ]*PRIVATE KEY-----"
#: Also as the end of `dbPassword`, and with more behind it: `secret_access_key`, `tokenValue`.
_NAMED = (
    r"(?:password|passwd|passphrase|pwd|secret|token|credential|(?:api|access|private|account)[_-]?key)"
    r"[\w-]{0,32}|\b\w{0,32}[_-]pass\b"
)

_BASE64 = "[A-Za-z0-9/+]"
_MIXED = "".join(f"(?={_BASE64}{{0,39}}{kind})" for kind in ("[a-z]", "[A-Z]", "[0-9]"))
_MORE = r"(?:[ -]?\d{2,4}){1,2}"

#: Name and pattern, in the order in which they are looked for: the longer and surer ones first.
PATTERNS: Sequence[tuple[str, re.Pattern[str]]] = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        ("private_key", rf"{_KEY_BEGINS}[\s\S]{{0,8192}}?(?:-----END [A-Z ]*PRIVATE KEY-----|$)"),
        ("jwt", r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"),
        ("bearer", r"(?i)\b(?:bearer|basic)\s+[\w.~+/=-]{12,}"),
        (
            "bearer",
            r"(?i)\bauthorization\\?[\"']?\s{0,3}[:=]\s{0,3}\\?[\"']?\w{1,16} [\w.~+/=-]{8,}",
        ),
        # Up to the last @ before the host: a password may hold one.
        ("url_password", r"(?<=://)[^\s/:@]{1,256}:[^\s/]{1,256}(?=@)"),
        ("api_key", r"\b(?:sk|pk|rk)[-_][\w-]{16,}"),
        ("api_key", r"\bAIza[\w-]{30,}"),
        ("api_key", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
        ("api_key", r"\bgh[pousr]_\w{20,}|\bgithub_pat_\w{20,}"),
        ("api_key", r"\bglpat-[\w-]{16,}"),
        ("api_key", r"\bxox[abeoprs]-[\w-]{10,}|\bxapp-[\w-]{10,}|\bdo[opr]_v1_[0-9a-f]{32,}"),
        ("api_key", r"\bhf_[A-Za-z0-9]{20,}|\bnpm_[A-Za-z0-9]{30,}|\bwhsec_[\w+/=-]{16,}"),
        ("api_key", r"\bSG\.[\w-]{16,}\.[\w-]{16,}|\bya29\.[\w-]{20,}"),
        ("api_key", r"hooks\.slack\.com/services/[\w/]{16,}"),
        ("secret", rf"(?i)(?:{_NAMED})\\?[\"']?\s{{0,3}}[:=]\s{{0,3}}\\?\"[^\"\\]{{4,256}}"),
        ("secret", rf"(?i)(?:{_NAMED})[\"']?\s{{0,3}}[:=]\s{{0,3}}'[^']{{4,256}}"),
        ("secret", rf"(?i)(?:{_NAMED})\\?[\"']?\s{{0,3}}[:=]\s{{0,3}}\\?[\"']?[^\s\"',;\\]{{4,}}"),
        # The form of an AWS secret: 40 characters of base64 with all three kinds in them.
        ("secret", rf"(?<![\w/+=-]){_MIXED}{_BASE64}{{40}}(?![\w/+=-])"),
        ("email", r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,6}"),
        ("iban", r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b"),
        ("card", r"(?<![\d-])(?:\d[ -]?){12,18}\d(?![\d-])"),
        ("ssn", r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])"),
        ("phone", r"(?<![\w+])(?:\+|00)\d{1,3}(?:[ ./()-]{0,2}\d){6,12}(?!\d)"),
        ("phone", r"(?<![\w-])\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}(?![\w-])"),
        # National numbers with their trunk zero: 030 1234567, 0171/1234567, 020 7946 0958.
        (
            "phone",
            rf"(?<![\w.,:/-])\(?0[1-9]\d{{1,4}}\)?[ /-]{{1,3}}\d{{3,4}}{_MORE}(?![\w-])",
        ),
        ("ip_address", r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.])"),
        ("ip_address", r"(?i)(?<![\w:])(?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}(?![\w:])"),
        ("ip_address", r"(?i)(?<![\w:])(?:[0-9a-f]{1,4}:){1,6}(?::[0-9a-f]{1,4}){1,6}(?![\w:])"),
    )
)


def redact(text: str) -> str:
    """The text with a name in brackets wherever a pattern was found."""
    for name, pattern in PATTERNS:
        text = pattern.sub(f"[{name}]", text)
    return text

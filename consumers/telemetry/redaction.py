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

#: Name and pattern, in the order in which they are looked for: the longer and surer ones first.
PATTERNS: Sequence[tuple[str, re.Pattern[str]]] = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        ("private_key", rf"{_KEY_BEGINS}[\s\S]{{0,8192}}?(?:-----END [A-Z ]*PRIVATE KEY-----|$)"),
        ("jwt", r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"),
        ("bearer", r"(?i)\b(?:bearer|basic)\s+[\w.~+/=-]{12,}"),
        ("url_password", r"(?<=://)[^\s/:@]{1,256}:[^\s/@]{1,256}(?=@)"),
        ("api_key", r"\b(?:sk|pk|rk)[-_][\w-]{16,}"),
        ("api_key", r"\bAIza[\w-]{30,}"),
        ("api_key", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
        ("api_key", r"\bgh[pousr]_\w{20,}|\bgithub_pat_\w{20,}"),
        ("api_key", r"\bglpat-[\w-]{16,}"),
        ("api_key", r"\bxox[abeoprs]-[\w-]{10,}"),
        ("api_key", r"\bhf_[A-Za-z0-9]{20,}|\bnpm_[A-Za-z0-9]{30,}|\bwhsec_[\w+/=-]{16,}"),
        ("api_key", r"\bSG\.[\w-]{16,}\.[\w-]{16,}|\bya29\.[\w-]{20,}"),
        ("api_key", r"hooks\.slack\.com/services/[\w/]{16,}"),
        ("secret", rf"(?i)(?:{_NAMED})\\?[\"']?\s{{0,3}}[:=]\s{{0,3}}\\?[\"']?[^\s\"',;\\]{{4,}}"),
        ("email", r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,6}"),
        ("iban", r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b"),
        ("card", r"(?<![\d-])(?:\d[ -]?){12,18}\d(?![\d-])"),
        ("ssn", r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])"),
        ("phone", r"(?<![\w+])(?:\+|00)\d{1,3}(?:[ ./()-]{0,2}\d){6,12}(?!\d)"),
        ("phone", r"(?<![\w-])\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}(?![\w-])"),
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

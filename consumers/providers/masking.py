"""Masks our keys in what a server sends, before anything else reads it.

Some servers and gateways quote the request in their errors, and some in replies. Nobody who reads a
dead letter, a result or a trace may find our key there.
"""

import base64
import json
import re
from collections.abc import Callable, Iterable
from urllib.parse import quote, quote_plus

__all__ = ["masking"]

_MASK = b"[secret]"
#: A shorter secret is no key, and may well be a word of the answer.
_SHORTEST = 8


def masking(secrets: Iterable[str]) -> Callable[[bytes], bytes]:
    """A function that masks secrets: as they are, in URLs, JSON and base64, in any case."""
    forms = {form for secret in secrets if len(secret) >= _SHORTEST for form in _forms(secret)}
    if not forms:
        return bytes
    # The longest first: some are the beginning of others.
    literals = sorted((form.lower() for form in forms), key=len, reverse=True)
    pattern = re.compile(b"|".join(map(re.escape, literals)), re.IGNORECASE)

    def masked(raw: bytes) -> bytes:
        # Looking for literals is a tenth of the work of a pattern that ignores case.
        lower = raw.lower()
        return pattern.sub(_MASK, raw) if any(literal in lower for literal in literals) else raw

    return masked


def _forms(secret: str) -> set[bytes]:
    """A secret in the ways in which servers may write it."""
    plain = secret.encode()
    encoded = {base64.b64encode(plain), base64.urlsafe_b64encode(plain)}
    texts = {secret, quote(secret, safe=""), quote(secret), quote_plus(secret)}
    texts.add(json.dumps(secret)[1:-1])
    return {text.encode() for text in texts} | {form.rstrip(b"=") for form in encoded}

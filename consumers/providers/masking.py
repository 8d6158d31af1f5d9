"""Keys that a server sends back, taken out of what it says before anything else reads it.

Some servers and gateways quote the request in their errors, and some in replies. Whoever reads a
dead letter, a result or a trace must not find our key there.
"""

import base64
import json
import re
from collections.abc import Callable, Iterable
from urllib.parse import quote, quote_plus

__all__ = ["masking"]

_MASK = b"[secret]"
#: What is shorter is no key, and may well be a word of the answer.
_SHORTEST = 8


def masking(secrets: Iterable[str]) -> Callable[[bytes], bytes]:
    """A function that masks secrets: as they are, in URLs, JSON and base64, in any case."""
    forms = {form for one in secrets if len(one) >= _SHORTEST for form in _forms(one)}
    if not forms:
        return bytes
    # The longest first: some are the beginning of others.
    literals = sorted((one.lower() for one in forms), key=len, reverse=True)
    pattern = re.compile(b"|".join(map(re.escape, literals)), re.IGNORECASE)

    def masked(said: bytes) -> bytes:
        # Looking for literals is a tenth of the work of a pattern that takes any case.
        lower = said.lower()
        return pattern.sub(_MASK, said) if any(one in lower for one in literals) else said

    return masked


def _forms(secret: str) -> set[bytes]:
    """A secret as servers may write it."""
    plain = secret.encode()
    coded = {base64.b64encode(plain), base64.urlsafe_b64encode(plain)}
    texts = {secret, quote(secret, safe=""), quote(secret), quote_plus(secret)}
    texts.add(json.dumps(secret)[1:-1])
    return {text.encode() for text in texts} | {one.rstrip(b"=") for one in coded}

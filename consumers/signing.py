"""Signatures of acts about releases: Ed25519 over the exact bytes of a record."""

import base64
import binascii
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from consumers.settings import Settings
from router.releases.standing import NO_KEYS, Keys
from schemas.errors import TierlineError

__all__ = ["Signer", "SigningError", "keys_of", "new_key", "signer_of"]


#: Of an extra: loaded where acts are signed.
_ED25519 = "cryptography.hazmat.primitives.asymmetric.ed25519"
_REFUSED = "cryptography.exceptions"


class SigningError(TierlineError):
    """Acts cannot be signed, or their signatures not be checked."""


class Signer(NamedTuple):
    """Signs as one key."""

    key_id: str
    sign: Callable[[bytes], bytes]


def keys_of(settings: Settings) -> Keys:
    """The keys that the settings list. Raises SigningError."""
    listed, since = settings.releases.keys, settings.releases.signed_since
    if not listed:
        return NO_KEYS
    ed25519, refused = import_module(_ED25519), import_module(_REFUSED).InvalidSignature
    public = {
        key_id: ed25519.Ed25519PublicKey.from_public_bytes(base64.b64decode(key.public))
        for key_id, key in listed.items()
    }

    def is_good(key_id: str, signature: bytes, signed: bytes) -> bool:
        try:
            public[key_id].verify(signature, signed)
        except refused:
            return False
        return True

    return Keys(
        may={key_id: key.may for key_id, key in listed.items()},
        ended={key_id: key.until for key_id, key in listed.items() if key.until is not None},
        signed_since=since,
        is_good=is_good,
    )


def signer_of(settings: Settings) -> Signer | None:
    """What this process signs with; None where it signs nothing. Raises SigningError, OSError."""
    key_id, file = settings.releases.sign_as, settings.releases.key_file
    if key_id is None or file is None:
        return None
    try:
        private = base64.b64decode(file.read_bytes().strip(), validate=True)
        key = import_module(_ED25519).Ed25519PrivateKey.from_private_bytes(private)
    except (binascii.Error, ValueError):
        msg = f"{file} holds no key: 32 bytes in base64 were expected"
        raise SigningError(msg, advice="`tierline policy keygen` writes one") from None
    return Signer(key_id, key.sign)


def new_key(file: Path) -> str:
    """Write a new private key into a new file; return its public key. Raises OSError."""
    key = import_module(_ED25519).Ed25519PrivateKey.generate()
    text = base64.b64encode(key.private_bytes_raw()).decode()
    file.touch(mode=0o600, exist_ok=False)
    _ = file.write_text(f"{text}\n", encoding="ascii")
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()

"""Releases on this machine's disk: those applied here, for a start at which nobody has them."""

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

import structlog
from pydantic import ValidationError

from consumers.files import own_folder, write_own
from router.releases.bundle import Bundle
from schemas.policy_log import Release

__all__ = ["KeptReleases"]

_log = structlog.get_logger(__name__)
#: How many are kept. A request may still be under way under any of the last ones.
_MOST = 24


class KeptReleases:
    """The releases that were applied on this machine, and which one was active last."""

    def __init__(self, folder: Path, place: str) -> None:
        """`place`: the cluster and the policy, whose active release is remembered."""
        self._folder = folder
        self._active = folder / re.sub(r"[^\w.-]", "-", f"{place}.active")

    def keep(self, bundles: Iterable[Bundle], active: str) -> None:
        """Keep releases, and which one is active; empty: none is. What fails is logged."""
        try:
            own_folder(self._folder)
            for bundle in bundles:
                if bundle.text:
                    file = self._folder / f"{bundle.digest}.json"
                    _replace(file, bundle.release.model_dump_json())
            _replace(self._active, active)
            kept = sorted(self._folder.glob("*.json"), key=lambda file: file.stat().st_mtime)
            for file in kept[:-_MOST]:
                file.unlink(missing_ok=True)
        except (OSError, ValidationError) as error:
            _log.warning("release not kept", folder=str(self._folder), error=type(error).__name__)

    def release(self, digest: str) -> Release | None:
        """A kept release; None where there is none that can be read."""
        if not re.fullmatch(r"[0-9a-f]{12}", digest):
            return None
        with contextlib.suppress(OSError, ValueError):
            text = (self._folder / f"{digest}.json").read_text(encoding="utf-8")
            return Release.model_validate_json(text)
        return None

    def last_active(self) -> str | None:
        """The digest of the release that was active last; None where nothing is known of it."""
        with contextlib.suppress(OSError, ValueError):
            return self._active.read_text(encoding="utf-8")
        return None


def _replace(file: Path, text: str) -> None:
    """Write a file so that others see the former content or all of this. Raises OSError."""
    new = file.with_suffix(f".{os.getpid()}")
    write_own(new, text)
    new.replace(file)

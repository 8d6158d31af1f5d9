"""Every class of probes. A new one is a module with `CLASS`, and its line here."""

from tests.probes.chat import CLASS as CHAT
from tests.probes import text
from tests.probes.report import ProbeClass

__all__ = ["CLASSES"]

CLASSES: tuple[ProbeClass, ...] = (CHAT,)
CLASSES: tuple[ProbeClass, ...] = (text.CLASS,)

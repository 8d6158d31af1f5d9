"""Every class of probes. A new one is a module with `CLASS`, and its line here."""

from tests.probes.chat import CLASS as CHAT
from tests.probes.console import CLASS as CONSOLE
from tests.probes.inner import CLASS as INNER
from tests.probes.report import ProbeClass
from tests.probes.schemas import CLASS as SCHEMAS
from tests.probes.ssrf import CLASS as SSRF
from tests.probes.templates import CLASS as TEMPLATES
from tests.probes.tenants import CLASS as TENANTS
from tests.probes.terminal import CLASS as TERMINAL
from tests.probes.text import CLASS as TEXT

__all__ = ["CLASSES"]

CLASSES: tuple[ProbeClass, ...] = (
    CHAT,
    CONSOLE,
    INNER,
    SCHEMAS,
    SSRF,
    TEMPLATES,
    TENANTS,
    TERMINAL,
    TEXT,
)

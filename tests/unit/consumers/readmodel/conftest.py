"""The databases that the read model may be in."""

from tests.unit.consumers.console.conftest import server, url

__all__ = ["server", "url"]

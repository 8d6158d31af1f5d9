"""The probes that need a broker share the one of the broker tests."""

from tests.kafka.conftest import broker

__all__ = ["broker"]

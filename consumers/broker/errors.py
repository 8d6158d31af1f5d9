"""What can go wrong with a broker of our own."""

__all__ = ["BrokerError"]


class BrokerError(Exception):
    """The broker cannot be started; the message says why and what to do."""

"""A real Apache Kafka of our own on loopback: no Docker, no installed Java."""

from consumers.broker.errors import BrokerError
from consumers.broker.local import LocalBroker, local_broker

__all__ = ["BrokerError", "LocalBroker", "local_broker"]

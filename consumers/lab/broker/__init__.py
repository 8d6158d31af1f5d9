"""A real Apache Kafka of our own on loopback: no Docker, no installed Java."""

from consumers.lab.broker.errors import BrokerError
from consumers.lab.broker.jars import has_jars
from consumers.lab.broker.local import LocalBroker, local_broker

__all__ = ["BrokerError", "LocalBroker", "has_jars", "local_broker"]

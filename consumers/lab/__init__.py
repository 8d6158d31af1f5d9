"""Stand-ins for what a deployment has: a Kafka of our own, and a provider that is simulated."""

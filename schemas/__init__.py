"""What we say: the contracts of every topic, and the topics themselves."""

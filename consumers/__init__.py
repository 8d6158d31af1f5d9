"""What runs: stages, their runtime, providers, the broker, the command line."""

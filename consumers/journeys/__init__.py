"""A request's journey: what its records say of it, for commands and pages alike."""

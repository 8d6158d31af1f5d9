"""Limits and health of one model at one provider, each a small machine that is told the time."""

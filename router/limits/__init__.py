"""Limits and health of one model at one provider; nothing here reads a clock."""

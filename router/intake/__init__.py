"""Whose a request is, what it may bring, and whether it came before."""

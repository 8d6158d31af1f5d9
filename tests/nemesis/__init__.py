"""Faults on purpose: load, a broker that fails, a bill to compare with, and a judge."""

"""Traces, metrics and what logs say of them: OpenTelemetry by hand, in one room."""

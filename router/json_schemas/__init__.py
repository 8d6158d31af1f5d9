"""JSON Schemas that others wrote, compiled within bounds and validated within a budget."""

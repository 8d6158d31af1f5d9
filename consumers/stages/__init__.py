"""The stages: what each does with one record."""

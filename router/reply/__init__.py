"""Replies of models: what they are, their content in one form, and how two of them differ."""

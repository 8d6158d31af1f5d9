"""The console in a real browser, as a person uses it."""

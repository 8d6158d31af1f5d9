"""Facts about a request, measured before anything is decided."""

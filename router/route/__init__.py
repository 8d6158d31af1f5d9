"""Which tier a request goes to, at first and when a tier has handed it back."""

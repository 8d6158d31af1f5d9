"""How we decide: pure functions over requests, replies and the policy."""

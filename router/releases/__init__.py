"""Releases: policy and prompts as one bundle, and the acts by which one takes another's place."""

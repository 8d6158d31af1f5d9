"""Lines that commands print."""

from consumers.texts import say

__all__ = ["say"]

"""What a class of probes tried, and what of it got through."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

__all__ = ["ProbeClass", "Report"]


@dataclass(slots=True)
class Report:
    """Counts the probes of one class."""

    tried: int = 0
    #: What got through, in words: the probe's name and what it did.
    got_through: list[str] = field(default_factory=list)

    def note(self, name: str, *, through: str | None) -> None:
        """Count one probe; `through` says what it did that must not be, or None."""
        self.tried += 1
        if through is not None:
            self.got_through.append(f"{name}: {through}")

    def check(self, name: str, *, is_blocked: bool, otherwise: str = "it got through") -> None:
        """Count one probe that either was blocked or was not."""
        self.note(name, through=None if is_blocked else otherwise)


@dataclass(frozen=True, slots=True)
class ProbeClass:
    """One kind of attack: its name, how many probes it has at least, and what tries them."""

    name: str
    least: int
    #: Tries every probe. The second argument is the address of a broker, "" for a class without.
    run: Callable[[Report, str], Awaitable[None]]
    needs_broker: bool = False
    #: Tries a part of them where all would take too long, or depend on how busy the machine is.
    sample: Callable[[Report], None] | None = None

"""Which records have ended their process, and how often. No I/O.

Strikes are the metadata of offset commits, under a group of their own beside each group of ours:
whoever takes a partition reads them from Kafka.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["MOST_TRIES", "Strikes", "group_of_strikes"]

#: A record that has ended so many processes is not tried again.
MOST_TRIES = 2
_VERSION = "1"
#: A broker takes 4,096 characters; 70 entries of at most 48 are 3,430.
_MOST_OFFSETS = 70
#: More make no difference: after two the record is set aside, after three as a pointer alone.
_MOST_DEATHS = 3


def group_of_strikes(group: str) -> str:
    """The group under which strikes against a group's records are kept."""
    return f"{group}.strikes"


@dataclass(frozen=True, slots=True)
class Strikes:
    """The strikes of one partition: by offset, the names of the deaths. The newest is last."""

    by_offset: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    def count(self, offset: int) -> int:
        """How many processes have ended at this record."""
        return len(self.by_offset.get(offset, ()))

    def after(self, offset: int, death: str) -> "Strikes":
        """With one more strike. A death that was noted before changes nothing."""
        kept = dict(self.by_offset)
        deaths = kept.pop(offset, ())
        if death not in deaths and len(deaths) < _MOST_DEATHS:
            deaths = (*deaths, death)
        kept[offset] = deaths
        return Strikes(dict(list(kept.items())[-_MOST_OFFSETS:]))

    def encode(self) -> str:
        """The strikes as commit metadata."""
        entries = (f"{offset}={'.'.join(deaths)}" for offset, deaths in self.by_offset.items())
        return f"{_VERSION};{','.join(entries)}"

    @classmethod
    def decode(cls, metadata: str) -> "Strikes":
        """Read them back. Raises ValueError for metadata that is not ours."""
        if not metadata:
            return cls()
        version, _, text = metadata.partition(";")
        if version != _VERSION:
            msg = f"strikes of version {version!r}; this release reads {_VERSION!r}"
            raise ValueError(msg)
        by_offset: dict[int, tuple[str, ...]] = {}
        for entry in filter(None, text.split(",")):
            offset, _, deaths = entry.partition("=")
            by_offset[int(offset)] = tuple(deaths.split("."))
        return cls(by_offset)

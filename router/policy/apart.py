"""What a task has to itself: calls at once, and the health of the models that it calls."""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Literal, NamedTuple, Protocol

__all__ = ["SHARED", "Apart", "apart_of"]


class Apart(NamedTuple):
    """What one task does not share with the others."""

    task: str = ""
    #: The most calls at once. None: as many as its models take.
    slots: int | None = None
    #: The models that its own failures put out for it alone.
    models: Collection[str] = frozenset()

    def whose(self, model: str) -> str:
        """Whose failures count: the task's, or those of all others, who have no name."""
        return self.task if model in self.models else ""


SHARED = Apart()


class _Task(Protocol):
    """What a row of the table says of it."""

    @property
    def models(self) -> list[str]: ...
    @property
    def slots(self) -> int | None: ...
    @property
    def breaker(self) -> Literal["shared", "own"]: ...


def apart_of(
    tasks: Mapping[str, _Task], models: Collection[str], shared: Collection[str]
) -> Mapping[str, Apart]:
    """What each task has to itself, by all `models` and those that tiers name.

    What one task alone calls needs nothing beside it.
    """
    users = Counter(model for task in tasks.values() for model in task.models) + Counter(shared)
    return {
        name: Apart(
            name,
            task.slots,
            frozenset(
                model
                for model in (models if task.breaker == "own" else task.models)
                if users[model] > 1 or model not in task.models
            ),
        )
        for name, task in tasks.items()
    }

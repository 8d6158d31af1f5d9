"""The reasons why the console refuses an act."""

from typing import TYPE_CHECKING

from schemas.errors import TierlineError

if TYPE_CHECKING:
    from consumers.console.tables import Case

__all__ = [
    "AlreadyDecidedError",
    "CaseError",
    "ImpossibleError",
    "JobRunningError",
    "LeaseLostError",
    "NotSentError",
    "StaleError",
    "UndoTooLateError",
    "UnknownCaseError",
    "UnknownRequestError",
    "UnseenError",
    "UsedIdError",
]


class CaseError(TierlineError):
    """An act on a case is refused. `case` is its present state."""

    def __init__(self, words: str, case: "Case | None" = None) -> None:
        super().__init__(words)
        self.case = case


class UnknownCaseError(CaseError):
    """There is no case at this place."""

    def __init__(self, place: str) -> None:
        super().__init__(f"there is no case {place!r}")


class UnknownRequestError(TierlineError):
    """There is no such request, or none that whoever asks may see."""

    def __init__(self, request_id: str) -> None:
        super().__init__(f"no topic knows a request {request_id!r}; ids are case-sensitive")


class AlreadyDecidedError(CaseError):
    """The case no longer waits for a decision."""

    def __init__(self, case: "Case") -> None:
        if case.decided_by is not None:
            words = f"{case.decided_by} has already decided: {case.action}"
        else:
            words = "the request has continued without a decision"
        super().__init__(words, case)


class LeaseLostError(CaseError):
    """The user does not hold the case."""

    def __init__(self, case: "Case") -> None:
        if case.held_by is None:
            words = "the claim has ended; claim the case again"
        else:
            words = f"{case.held_by} holds the case"
        super().__init__(words, case)


class StaleError(CaseError):
    """The case has changed since it was read."""

    def __init__(self, case: "Case") -> None:
        super().__init__(f"the case has changed; it is at version {case.version} now", case)


class UnseenError(CaseError):
    """The answers are not those that the user has seen."""

    def __init__(self) -> None:
        super().__init__("these are not the answers that were shown; look at them again")


class UndoTooLateError(CaseError):
    """The decision can no longer be taken back, or is not theirs to take back."""

    def __init__(self, case: "Case") -> None:
        super().__init__("the decision can no longer be taken back", case)


class UsedIdError(CaseError):
    """Another decision has this id, possibly one that was undone."""

    def __init__(self, decision_id: str) -> None:
        super().__init__(f"{decision_id} is the id of another decision; use a new one")


class ImpossibleError(TierlineError):
    """The decision cannot be carried out. `problems` are places in an edited answer, and why."""

    def __init__(self, words: str, problems: list[tuple[str, str]] | None = None) -> None:
        super().__init__(words)
        self.problems = problems or []


class NotSentError(TierlineError):
    """Kafka has not acknowledged an act in time; the message says what follows."""


class JobRunningError(TierlineError):
    """A person can run one job at a time."""

"""Which of the reviewers' decisions stands."""

from dataclasses import dataclass, field

from schemas.review import AuditLine, Decision

__all__ = ["Decisions"]


@dataclass(slots=True)
class Decisions:
    """The decisions of one partition of the review topic, noted in the order of its offsets.

    The first decision on a dead letter stands, unless it was undone while its window was open, or
    could not be carried out. A console that saw no acknowledgement sends its decision again: then
    the first record counts. A request has one dead letter per generation, and one more for each
    other body under its id. Times are the broker's, so every reader comes to the same.
    """

    #: Every record below this offset has been noted.
    upto: int = 0
    #: By dead letter: each decision's id and the offset of its first record.
    _given: dict[str, dict[str, int]] = field(default_factory=dict)
    _closing: dict[str, float] = field(default_factory=dict)
    _undone: set[str] = field(default_factory=set)

    def note(self, offset: int, appended_at: float, line: AuditLine | None) -> None:
        """Note a record, once. `appended_at` is in seconds, `line` None where it is unreadable."""
        if offset < self.upto:
            return
        self.upto = offset + 1
        if line is None:
            return
        if (decision := line.decision) is not None:
            letter, closes = str(decision.letter), appended_at + decision.undo_seconds
            self._given.setdefault(letter, {}).setdefault(decision.decision_id, offset)
            self._closing.setdefault(decision.decision_id, closes)
        if line.undoes is not None:
            in_time = appended_at <= self._closing.get(line.undoes, -1.0)
            if in_time or line.what == "refused":
                self._undone.add(line.undoes)

    def stands(self, decision: Decision, offset: int) -> bool:
        """True when the decision in the record at `offset` counts, once its window has closed."""
        letter = str(decision.letter)
        is_first = self._given.get(letter, {}).get(decision.decision_id) == offset
        return is_first and self.standing(letter) == decision.decision_id

    def standing(self, letter: str) -> str | None:
        """The id of the decision that counts for a dead letter; None while there is none."""
        given = self._given.get(letter, ())
        return next((decision_id for decision_id in given if decision_id not in self._undone), None)

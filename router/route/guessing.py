"""Guesses: which task a request counts as whose producer named none that the policy has."""

from typing import NamedTuple

from router.policy.table import Policy, Task
from router.request.subjects import Subject, subjects_of
from schemas.escalation import Classification
from schemas.request import Request

__all__ = ["Guess", "care_of", "careful_row", "guess_of", "task_of"]


def task_of(
    request: Request, policy: Policy, classification: Classification | None = None
) -> str | None:
    """The request's task if the policy has it, else the task that was guessed for it."""
    if request.task in policy.tasks:
        return request.task
    guess = guess_of(request, policy, classification)
    return guess.task if guess else None


class Guess(NamedTuple):
    """The task of a request whose producer named none that the policy has."""

    task: str
    words: str
    needs_person: bool = False


def guess_of(
    request: Request, policy: Policy, classification: Classification | None
) -> Guess | None:
    """The guess for a request that was classified; None where it was not.

    A cheap model's classification is not enough where the text speaks of something delicate.
    """
    classified = classification.task if classification else None
    if request.task in policy.tasks or classified not in policy.tasks:
        return None
    careful = careful_row(request, policy)
    plain = Guess(classified, f"taken as {classified}")
    if careful is None:
        return plain
    row, (subject, name) = policy.tasks[classified], careful
    if name == "person":
        words = f"taken as {classified}, and the text speaks of {subject}, so a person approves"
        return plain if row.approval != "none" else Guess(classified, words, needs_person=True)
    if care_of(row) >= max(care_of(policy.tasks[name]), 1):
        return plain
    return Guess(name, f"taken as {name}, not as {classified}, for the text speaks of {subject}")


def careful_row(request: Request, policy: Policy) -> tuple[Subject, str] | None:
    """The delicate subject that the text speaks of, and the row that is careful enough for it.

    Of several, the subject that demands most: a row whose answers a person approves, else a person,
    else a risky row.
    """
    rows = policy.classify.speaks_of if policy.classify else {}
    spoken_of = subjects_of(request.text) if rows else ()
    candidates = [(subject, name) for subject, name in rows.items() if subject in spoken_of]
    return max(candidates, key=lambda row: _care_of(row[1], policy), default=None)


def _care_of(name: str, policy: Policy) -> int:
    if name == "person":
        return 2
    return care_of(policy.tasks[name])


def care_of(row: Task) -> int:
    """How careful a task is with its answers: 1 where it is risky, more where a person sees them.

    2 is left for a person who approves the answer of any row.
    """
    return {"none": int(row.risk == "risky"), "person": 3, "person_first": 4}[row.approval]

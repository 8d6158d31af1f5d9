"""What can be wrong with what people write."""

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.errors import TierlineError

__all__ = ["PolicyError", "Problem", "PromptError", "RouterError"]


class RouterError(TierlineError):
    """Something people wrote cannot be used."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake: where it is, and what was expected."""

    line: int
    path: str
    message: str

    def at(self, file: str) -> str:
        """`file:line: path: message`, which editors and terminals make a link of."""
        return f"{file}:{self.line}: {self.path + ': ' if self.path else ''}{self.message}"


class PolicyError(RouterError):
    """The policy is refused. All its problems are listed, in the order of their lines."""

    def __init__(self, file: str, problems: Sequence[Problem]) -> None:
        self.file = file
        self.problems = sorted(set(problems))
        super().__init__("\n".join(problem.at(file) for problem in self.problems))


class PromptError(RouterError):
    """A prompt contract or variant cannot be used."""

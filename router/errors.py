"""Errors in policies and prompts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from schemas.errors import TierlineError

__all__ = ["PolicyError", "Problem", "PromptError", "RouterError", "did_you_mean"]


class RouterError(TierlineError):
    """A policy or a prompt cannot be used."""


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


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """The option nearest to a name, as the end of a message; empty where none is near."""
    near = get_close_matches(name, list(options), n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""

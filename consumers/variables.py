"""Environment variables as settings: those that no setting reads, and what is wrong with others."""

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

__all__ = ["PREFIX", "settings_problems", "unknown_variables"]

PREFIX = "TIERLINE_"
#: Variables with our prefix that are no settings: of the command line and of tests; and those that
#: Kubernetes sets in every container for a service named `tierline...`.
_NOT_SETTINGS = re.compile(
    r"DEBUG|FAILPOINT|DATA|(TEST|BENCH)_.*|"
    r"([A-Z0-9_]+_)?(SERVICE_(HOST|PORT)(_[A-Z0-9_]+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_[A-Z]+)?)"
)
_ADDRESS = re.compile(r"(?:tcp|udp|sctp)://")
#: Stands in a setting's name for a part that is up to the user, such as a provider's name.
_ANY = "*"


def unknown_variables(
    variables: Mapping[str, str], settings: type[BaseModel]
) -> Iterator[tuple[str, str]]:
    """Variables with our prefix that no setting reads, each with the setting's that is nearest."""
    paths = set(_paths(settings))
    for variable, value in sorted(variables.items()):
        name = variable.upper().removeprefix(PREFIX)
        if name == variable.upper() or _NOT_SETTINGS.fullmatch(name) or _ADDRESS.match(value):
            continue
        parts = name.split("__")
        names = {_filled_in(path, parts) for path in paths}
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.7)
            yield variable, PREFIX + near[0] if near else ""


def _paths(kind: Any) -> Iterator[tuple[str, ...]]:
    """The parts of the name of each setting that a type holds; the type itself is one."""
    yield ()
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for field, info in kind.model_fields.items():
            yield from ((field.upper(), *path) for path in _paths(info.annotation))
    elif get_origin(kind) is dict:
        yield from ((_ANY, *path) for path in _paths(get_args(kind)[1]))
    else:
        for part in get_args(kind):
            yield from _paths(part)


def _filled_in(path: tuple[str, ...], parts: list[str]) -> str:
    """A setting's name, with a variable's own parts where any would do."""
    own = [*parts, *path[len(parts) :]]
    return "__".join(own[no] if step == _ANY else step for no, step in enumerate(path))


def settings_problems(error: BaseException) -> Iterator[str]:
    """What is wrong with the settings, each under its variable; values are left out."""
    if not isinstance(error, ValidationError):  # the settings' reader, which names the field
        field = re.search(r'field "(\w+)"', str(error))
        yield f"{_variable(field[1] if field else '')}: JSON was expected"
        return
    for problem in error.errors(include_input=False, include_url=False, include_context=False):
        # Pydantic's own words say what was expected after "Value error".
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "there is no such setting"
        elif problem["type"] == "missing":
            message = "is required and missing"
        message = message.replace("Input should be", "expected")
        # A problem between two settings names them itself.
        yield f"{_variable(*problem['loc'])}: {message}" if problem["loc"] else message


def _variable(*path: str | int) -> str:
    return PREFIX + "__".join(map(str, path)).upper()

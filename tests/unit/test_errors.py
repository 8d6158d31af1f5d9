"""Every error of ours stands in the one tree, as it is drawn."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType

import consumers
import router
import schemas
from schemas import errors
from schemas.errors import TierlineError

_DRAWN = re.compile(r"^([│ ├└─]*)(\w+Error) {2,}\S")


def _modules() -> Iterator[ModuleType]:
    for package in (schemas, router, consumers):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.endswith("__main__"):
                yield importlib.import_module(found.name)


def _ours() -> set[type[BaseException]]:
    return {
        one
        for module in _modules()
        for one in vars(module).values()
        if isinstance(one, type)
        and issubclass(one, BaseException)
        and one.__module__ == module.__name__
    }


def _drawn() -> dict[str, str | None]:
    """Each name with its parent's."""
    parents: list[str] = []
    tree: dict[str, str | None] = {}
    for line in (errors.__doc__ or "").splitlines():
        if found := _DRAWN.match(line):
            depth = len(found[1]) // 4
            del parents[depth:]
            tree[found[2]] = parents[-1] if parents else None
            parents.append(found[2])
    return tree


def test_the_tree_is_drawn_as_it_is() -> None:
    found = {one.__name__: one.__bases__[0].__name__ for one in _ours()}
    expected = {name: parent or "Exception" for name, parent in _drawn().items()}

    assert found == expected


def test_an_error_says_what_to_do_next() -> None:
    class ThisError(TierlineError):
        advice = "wait"

    assert ThisError("it is busy").for_people == "it is busy: wait"
    assert ThisError("it is busy", advice="go").for_people == "it is busy: go"
    assert TierlineError("it is busy").for_people == "it is busy"

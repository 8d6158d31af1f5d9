"""The templates of prompts: a small part of Jinja2, with a budget of steps and of output.

Whatever could run long or grow without bound is refused when a template is read. That is before
Jinja2 compiles it, because the compiler evaluates constants such as `"x" * 10**9`. What remains are
loops over the prompt's own lists, which are counted, and texts one after another.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from jinja2 import (
    StrictUndefined,
    Template,
    TemplateRuntimeError,
    TemplateSyntaxError,
    nodes,
    pass_context,
)
from jinja2.filters import FILTERS
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from schemas.errors import TierlineError

__all__ = ["BoundedTemplate", "OverBudgetError"]

MAX_TEMPLATE = 32 << 10
#: Characters of a rendered template. A request and its context are a megabyte at most.
MAX_OUTPUT = 4 << 20
#: Names, values, filters and statements of one template.
MAX_NODES = 3_000
#: Turns of all loops of one rendering.
MAX_STEPS = 2_000
#: Characters that the filters of one rendering may read and write.
MAX_FILTERED = 4 << 20

_STATEMENTS = (nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.For, nodes.Assign)
_VALUES = (
    nodes.Name, nodes.NSRef, nodes.Const, nodes.List, nodes.Tuple, nodes.Getattr, nodes.Getitem,
    nodes.Filter, nodes.Test, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not,
    nodes.CondExpr, nodes.Call, nodes.Neg, nodes.Keyword, nodes.Slice,
)  # fmt: skip
_METHODS = ("items", "keys", "values")
_FILTERS = frozenset(
    {
        "capitalize", "count", "d", "default", "dictsort", "first", "indent", "int", "items",
        "join", "last", "length", "list", "lower", "replace", "reverse", "sort", "string", "title",
        "tojson", "trim", "unique", "upper", "wordcount",
    }
)  # fmt: skip
#: What to write instead, by the node that is refused.
_INSTEAD: Mapping[type[nodes.Node], str] = {
    nodes.Mul: "`*` is not supported in templates; write the text out",
    nodes.Pow: "`**` is not supported in templates; write the number out",
    nodes.Mod: "`%` is not supported in templates",
    nodes.Add: "`+` is not supported in templates; put texts one after another",
    nodes.Concat: "`~` is not supported in templates; put texts one after another",
}
#: Characters that each item of a value counts as.
_PART = 32
_COUNTED, _BUDGET = "_counted", "_budget"


class OverBudgetError(TierlineError, TemplateRuntimeError):
    """A rendering takes too many steps, or becomes too long."""


class _Budget:
    """The steps and characters that one rendering has used."""

    def __init__(self) -> None:
        self._steps, self._filtered = 0, 0

    def step(self) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS:
            msg = f"its loops take more than {MAX_STEPS} turns"
            raise OverBudgetError(msg)

    def filtered(self, characters: int) -> None:
        self._filtered += characters
        if self._filtered > MAX_FILTERED:
            msg = f"its filters read and write more than {MAX_FILTERED} characters"
            raise OverBudgetError(msg)


class BoundedTemplate:
    """A compiled template that is within bounds; `parsed` is its syntax tree."""

    def __init__(self, text: str) -> None:
        """Raises TemplateSyntaxError, with its line, for a template that is not supported."""
        if len(text) > MAX_TEMPLATE:
            msg = f"a template may have {MAX_TEMPLATE} characters"
            raise TemplateSyntaxError(msg, 1)
        try:
            self.parsed = _ENVIRONMENT.parse(text)
            _check(self.parsed)
            parsed = _ENVIRONMENT.parse(text)
            for loop in parsed.find_all(nodes.For):
                loop.iter = nodes.Filter(
                    loop.iter, _COUNTED, [], [], None, None, lineno=loop.lineno
                )
            code = _ENVIRONMENT.compile(parsed)
        except (RecursionError, SyntaxError, MemoryError):
            msg = "it is nested too deeply"
            raise TemplateSyntaxError(msg, 1) from None
        except (ValueError, OverflowError):
            msg = "a number in it is too long"
            raise TemplateSyntaxError(msg, 1) from None
        self._template = Template.from_code(_ENVIRONMENT, code, {})

    def render(self, **given: Any) -> str:
        """The text. Raises TemplateError, and OverBudgetError for one that becomes too long."""
        parts, length = [], 0
        for part in self._template.generate({**given, _BUDGET: _Budget()}):
            length += len(part)
            if length > MAX_OUTPUT:
                msg = f"it becomes longer than {MAX_OUTPUT} characters"
                raise OverBudgetError(msg)
            parts.append(part)
        return "".join(parts)


def _check(parsed: nodes.Template) -> None:
    """Raises TemplateSyntaxError for what is not supported."""
    stack: list[tuple[nodes.Node, int, bool]] = [(parsed, 1, False)]
    seen = 0
    while stack:
        node, line, in_loop = stack.pop()
        seen += 1
        if seen > MAX_NODES:
            msg = f"more than {MAX_NODES} names, values and statements"
            raise TemplateSyntaxError(msg, line)
        line = getattr(node, "lineno", None) or line
        if (wrong := _refusal(node, in_loop=in_loop)) is not None:
            raise TemplateSyntaxError(wrong, line)
        in_loop = in_loop or isinstance(node, nodes.For)
        stack.extend((child, line, in_loop) for child in node.iter_child_nodes())


def _refusal(node: nodes.Node, *, in_loop: bool) -> str | None:
    """Why a node is not supported; None when it is."""
    wrong: str | None = None
    match node:
        case nodes.Name(name=str(name)) if name.startswith("_"):
            wrong = f"no variable is called {name}"
        case nodes.Name(name="context") if in_loop:
            wrong = "a loop may not read the context; place it outside of loops"
        case nodes.Assign() if any(inner.name == "context" for inner in node.find_all(nodes.Name)):
            wrong = "the context may not be assigned to a variable; write it where it belongs"
        case nodes.List(items=items) | nodes.Tuple(items=items, ctx="load"):
            # A list of lists of itself is small until it is written out.
            if not all(isinstance(item, nodes.Const) for item in items):
                wrong = "a list in a template may hold only texts and numbers"
        case nodes.For(recursive=True):
            wrong = "recursive loops are not supported in templates"
        case nodes.Filter(name=str(name)) if name not in _FILTERS:
            options = ", ".join(sorted(_FILTERS))
            wrong = f"the filter {name} is not supported in templates; known are {options}"
        case nodes.Call(node=nodes.Getattr(attr=str(name)), args=[], kwargs=[]) if name in _METHODS:
            pass
        case nodes.Call():
            wrong = "the only functions in templates are items(), keys() and values()"
        case _ if not isinstance(node, (*_STATEMENTS, *_VALUES)):
            named = f"{type(node).__name__.lower()} is not supported in templates"
            wrong = _INSTEAD.get(type(node), named)
        case _:
            pass
    return wrong


@pass_context
def _counted(context: Context, values: Any) -> Iterator[Any]:
    budget = cast("_Budget", context[_BUDGET])
    for value in values:
        budget.step()
        yield value


def _bounded(name: str, filter_: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that counts what it reads and, before it runs, what it will write."""
    passes = getattr(filter_, "jinja_pass_arg", None)

    @pass_context
    def run(context: Context, value: Any, *args: Any, **named: Any) -> Any:
        budget = cast("_Budget", context[_BUDGET])
        if isinstance(value, Iterator):
            value = list(value)
        budget.filtered(_size(value) + _written(name, value, args, named))
        if passes is not None:
            args = (value, *args)
            value = context.eval_ctx if passes.name == "eval_context" else context.environment
        return filter_(value, *args, **named)

    return run


def _written(name: str, value: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> int:
    """How many characters a filter adds to what it reads."""
    given = [*args, *named.values()]
    if name == "indent":
        widths = [width if isinstance(width, int) else len(str(width)) for width in given]
        return (str(value).count("\n") + 1) * max(widths, default=4)
    if name == "join":
        return len(value) * max((len(str(argument)) for argument in given), default=0)
    if name == "replace" and len(args) >= 2:
        old, new = str(args[0]), str(args[1])
        return str(value).count(old) * len(new)
    if name == "tojson":
        return _size(value) * (6 + sum(width for width in given if isinstance(width, int)))
    return 0


def _size(value: Any) -> int:
    """Characters of a text, or of all that a list or an object holds."""
    size, stack = 0, [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            size += len(item)
        elif isinstance(item, Mapping):
            stack.extend(item)
            stack.extend(item.values())
        elif isinstance(item, (list, tuple)):
            stack.extend(item)
        size += _PART
    return size


_ENVIRONMENT = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
)
_ENVIRONMENT.globals.clear()
_ENVIRONMENT.filters = {name: _bounded(name, FILTERS[name]) for name in _FILTERS}
_ENVIRONMENT.filters[_COUNTED] = _counted

"""The form of an edited answer: a control for each field of the task's format, and back again.

An unchanged control leaves its value exactly as it was, with every digit and invisible character.
What no control fits is edited as JSON.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from consumers.console.edit_shapes import (
    ABSENT,
    Kind,
    Shape,
    bounds_of,
    is_number,
    members,
    options_of,
    shape_of,
    shown,
)
from consumers.console.errors import ImpossibleError
from consumers.console.showing import TOO_MANY_DIGITS, read_value
from consumers.texts import plain
from router.judge.judging import OutputContract
from schemas.json_numbers import exact_json

__all__ = ["Control", "Edited", "controls_of", "draft_of", "edited_answer", "fields_of"]
__all__ += ["is_form"]

_CONFIDENCE = "confidence"
#: A format or an answer with more fields is edited as JSON.
_MOST_CONTROLS = 200
_MORE_ROWS = 3
_AT, _ROWS, _LEFT_OUT = "at", "rows", "out"


@dataclass(frozen=True, slots=True)
class Control:
    """One control of the form, or a group or list of them."""

    #: Its place in the form, as a JSON pointer.
    at: str
    label: str
    kind: Kind
    shown: str = ""
    #: For example "a whole number from 1 to 5 was expected".
    expects: str = ""
    is_required: bool = False
    #: The values of a choice, with their words.
    options: Sequence[tuple[str, str]] = ()
    #: The attributes `min`, `max` and `step` of a number.
    bounds: Mapping[str, str] = field(default_factory=dict)
    parts: Sequence["Control"] = ()
    #: The user leaves this item of a list out.
    is_left_out: bool = False
    is_item: bool = False
    #: What is wrong with it, in words.
    problem: str = ""

    @property
    def lines(self) -> int:
        """The height of its text area."""
        longest = sum(1 + len(line) // 60 for line in self.shown.split("\n"))
        return min(max(longest, 1), 16)


@dataclass(frozen=True, slots=True)
class Edited:
    """An answer that a form makes."""

    output: dict[str, Any]
    #: By place in the form: why it cannot be published.
    problems: Sequence[tuple[str, str]] = ()
    #: The places in the form of places in the answer, which has fewer where items are left out;
    #: empty where the answer was written as JSON.
    places: Mapping[str, str] = field(default_factory=dict)
    #: By place in the form: what was expected there.
    expected: Mapping[str, str] = field(default_factory=dict)

    def located(self, problems: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Problems of the answer by their places in the form, in the form's words."""
        if not self.places:
            return list(problems)
        placed: list[tuple[str, str]] = []
        for where, words in problems:
            nearest = where
            while nearest and nearest not in self.places:
                nearest = nearest.rpartition("/")[0]
            at = self.places.get(nearest, nearest)
            placed.append((at, self.expected.get(at, words) if nearest == where else words))
        return placed


def draft_of(answer: Mapping[str, Any] | None, contract: OutputContract | None) -> dict[str, Any]:
    """The answer that an edit starts from.

    Its confidence is a person's: the highest that the format allows.
    """
    has_text = contract is None or contract.schema is None
    draft: dict[str, Any] = dict(answer or ({"answer": ""} if has_text else {}))
    if contract is None or not contract.has_confidence or "tool_calls" in draft:
        return draft
    properties = (contract.schema or {}).get("properties", {})
    most = properties[_CONFIDENCE].get("maximum")
    if is_number(most):
        draft[_CONFIDENCE] = most
    else:
        draft.setdefault(_CONFIDENCE, 1)
    return draft


def fields_of(form: Mapping[str, object]) -> dict[str, str]:
    """The texts of a posted form; browsers send a carriage return before each line break."""
    texts = ((name, text) for name, text in form.items() if isinstance(text, str))
    return {name: text.replace("\r\n", "\n") for name, text in texts}


def is_form(posted: Mapping[str, str]) -> bool:
    """True for what the form has sent, False for JSON as a whole."""
    return any(name.startswith(f"{_AT}/") for name in posted)


def controls_of(
    draft: Mapping[str, Any],
    contract: OutputContract | None,
    posted: Mapping[str, str],
    problems: Sequence[tuple[str, str]] = (),
) -> Sequence[Control] | None:
    """The controls, with what was `posted` in them; None where the answer is edited as JSON."""
    if "tool_calls" in draft:
        return None
    form = _Form(_schema_of(contract), posted, dict(problems))
    try:
        control = form.control(form.root, dict(draft), "", "", is_required=True, depth=0)
    except ImpossibleError:  # it would have too many
        return None
    return control.parts if control.kind == "group" else None


def edited_answer(
    draft: Mapping[str, Any], contract: OutputContract | None, posted: Mapping[str, str]
) -> Edited:
    """The answer that the form makes of a draft. Raises ImpossibleError for too large a form."""
    form = _Form(_schema_of(contract), posted, {})
    output = form.read(form.root, dict(draft), ("", ""), is_required=True, depth=0)
    return Edited(output, form.unfit, form.places, form.expected)


class _Form:
    """Walks a schema and a value together, to show controls or to read what they say."""

    def __init__(
        self, root: Mapping[str, Any], posted: Mapping[str, str], problems: Mapping[str, str]
    ) -> None:
        self.root = root
        self.unfit: list[tuple[str, str]] = []
        self.places: dict[str, str] = {}
        self.expected: dict[str, str] = {}
        self._posted = posted
        self._problems = problems
        self._left = _MOST_CONTROLS

    def control(
        self, node: Any, value: Any, at: str, label: str, *, is_required: bool, depth: int
    ) -> Control:
        """The control of a value."""
        self._count()
        shape = shape_of(node, self.root, value, depth)
        control = Control(
            at,
            label,
            shape.kind,
            expects=shape.expects,
            is_required=is_required and not shape.is_nullable,
            problem=self._problems.get(at, ""),
            is_left_out=f"{_LEFT_OUT}{at}" in self._posted,
        )
        if shape.kind == "group":
            parts = [
                self.control(inner, part, _below(at, name), name, is_required=must, depth=depth + 1)
                for name, inner, part, must in members(shape, value)
                if depth or name != _CONFIDENCE
            ]
            return replace(control, parts=parts)
        if shape.kind == "list":
            return replace(control, parts=list(self._items(shape, value, at, depth)))
        return replace(
            control,
            shown=self._posted.get(f"{_AT}{at}", shown(value, shape)),
            options=options_of(shape, value, is_required=is_required),
            bounds=bounds_of(shape),
        )

    def _items(self, shape: Shape, value: Any, at: str, depth: int) -> Iterator[Control]:
        items = value if isinstance(value, list) else []
        rows = self._rows(at, items, extra=1)
        rows += _MORE_ROWS if self._posted.get("more") == at else 0
        for no in range(rows):
            item = items[no] if no < len(items) else ABSENT
            control = self.control(
                shape.node["items"], item, f"{at}/{no}", str(no + 1), is_required=False,
                depth=depth + 1,
            )  # fmt: skip
            yield replace(control, is_item=True)

    def read(
        self, node: Any, value: Any, at: tuple[str, str], *, is_required: bool, depth: int
    ) -> Any:
        """The value that a control makes of this one; `at` is its place in form and answer."""
        self._count()
        here, to = at
        shape = shape_of(node, self.root, value, depth)
        self.places[to] = here
        if shape.kind == "group":
            return self._read_group(shape, value, at, is_required=is_required, depth=depth)
        self.expected[here] = shape.expects
        if shape.kind == "list":
            return self._read_list(shape, value, at, is_required=is_required, depth=depth)
        read = self._read_control(shape, value, here)
        if read is ABSENT and is_required:
            if shape.is_nullable:
                return None
            if shape.kind == "text":
                return ""
            self.unfit.append((here, shape.expects))
        return read

    def _read_group(
        self, shape: Shape, value: Any, at: tuple[str, str], *, is_required: bool, depth: int
    ) -> Any:
        here, to = at
        if value is ABSENT and not is_required and not self._is_filled(here):
            return ABSENT
        output: dict[str, Any] = {}
        for name, inner, part, must in members(shape, value):
            where = _below(here, name), _below(to, name)
            read = self.read(inner, part, where, is_required=must, depth=depth + 1)
            if read is not ABSENT:
                output[name] = read
        return output

    def _read_list(
        self, shape: Shape, value: Any, at: tuple[str, str], *, is_required: bool, depth: int
    ) -> Any:
        here, to = at
        items = value if isinstance(value, list) else []
        output: list[Any] = []
        for no in range(self._rows(here, items, extra=0)):
            where = f"{here}/{no}", f"{to}/{len(output)}"
            if f"{_LEFT_OUT}{where[0]}" in self._posted:
                continue
            item = items[no] if no < len(items) else ABSENT
            inner = shape.node["items"]
            read = self.read(inner, item, where, is_required=False, depth=depth + 1)
            if read is not ABSENT:
                output.append(read)
        return ABSENT if not output and value is ABSENT and not is_required else output

    def _read_control(self, shape: Shape, value: Any, at: str) -> Any:
        given = self._posted.get(f"{_AT}{at}")
        if given is None or given == shown(value, shape):
            return value
        is_blank = not given if shape.kind == "text" else not given.strip()
        if is_blank:
            return None if shape.is_nullable else ABSENT
        if shape.kind == "text":
            return _with_unseen(given, value)
        if shape.kind == "choice":
            chosen = [option for option in shape.options if exact_json(option) == given]
            if not chosen:
                self.unfit.append((at, shape.expects))
            return chosen[0] if chosen else value
        read, words = read_value(given)
        if not words and (shape.kind == "json" or is_number(read)):
            return read
        is_long = words == TOO_MANY_DIGITS
        self.unfit.append((at, words if is_long or shape.kind == "json" else shape.expects))
        return value

    def _is_filled(self, at: str) -> bool:
        """True where anything was written into the controls of a group."""
        prefix = f"{_AT}{at}/"
        return any(text.strip() for name, text in self._posted.items() if name.startswith(prefix))

    def _rows(self, at: str, items: Sequence[Any], *, extra: int) -> int:
        """The rows that the page had for a list; else those of its items and `extra` ones."""
        rows = self._posted.get(f"{_ROWS}{at}", "")
        is_count = rows.isascii() and rows.isdecimal() and len(rows) < 6
        return int(rows) if is_count else len(items) + extra

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            words = "the format has too many fields for a form; edit the answer as JSON"
            raise ImpossibleError(words)


def _schema_of(contract: OutputContract | None) -> Mapping[str, Any]:
    if contract is not None and contract.schema is not None:
        return contract.schema
    return {"type": "object", "required": ["answer"], "properties": {"answer": {"type": "string"}}}


def _with_unseen(text: str, before: Any) -> str:
    """A text with the invisible characters of the one before, which was shown with escapes."""
    for character in set(before) if isinstance(before, str) else ():
        if (written := plain(character)) != character:
            text = text.replace(written, character)
    return text


def _below(at: str, name: str) -> str:
    return f"{at}/{name.replace('~', '~0').replace('/', '~1')}"

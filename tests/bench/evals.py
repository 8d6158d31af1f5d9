"""What the checks reject of recorded answers, right and wrong, and what repairing fences is worth.

Reads the records under the folder that TIERLINE_DATA names: `evals/taskmix-records.jsonl.gz` and
`taskmix-requests.jsonl.gz`, one row per request and tier.
"""

import ast
import gzip
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from router.checks import Asked, Judged, named
from router.json_schemas.validator import compile_schema
from router.reply.normalise import normalise_json, normalise_text
from router.reply.reply import Reply
from schemas.base import Tier
from schemas.request import Request
from schemas.usage import Usage
from tests.builders import the_policy

__all__ = ["measure_evals"]

_COLUMNS = (
    "schema", "refusal", "empty", "confidence", "language", "grounding", "entities", "numbers",
)  # fmt: skip
#: Checks that compare with the question, which some records may not keep.
_OF_QUESTION = frozenset(("language", "grounding", "entities", "numbers"))
_MOST_RIGHT_REJECTED = 0.005
#: Python's and BFCL's names of types, as JSON Schema has them.
_TYPES = {"dict": "object", "float": "number", "tuple": "array"}
_WORDS = {"true": True, "false": False, "null": None, "none": None}


@dataclass(slots=True)
class _Cell:
    """What one check did to the answers of one task and tier."""

    rejected: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})
    seen: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})
    why: Counter[str] = field(default_factory=Counter)

    def note(self, *, is_right: bool, said: str | None) -> None:
        self.seen[is_right] += 1
        if said is not None:
            self.rejected[is_right] += 1
            if is_right:
                self.why[said] += 1

    def share(self, *, is_right: bool) -> float | None:
        return self.rejected[is_right] / self.seen[is_right] if self.seen[is_right] else None


@dataclass(slots=True)
class _Repair:
    """Answers that are not plain JSON or plain calls: how many, and right ones before and after."""

    wrapped: int = 0
    after: int = 0
    content: int = 0


def measure_evals() -> Iterator[str]:
    """The table by task and tier, then what fence repair brings, then what is out of line."""
    folder = Path(os.environ.get("TIERLINE_DATA", "")) / "evals"
    if not os.environ.get("TIERLINE_DATA") or not folder.is_dir():
        yield "TIERLINE_DATA names no folder with recorded evals, so there is nothing to measure"
        return
    requests = {row["request_id"]: row for row in _rows(folder / "taskmix-requests.jsonl.gz")}
    cells: dict[tuple[str, str], dict[str, _Cell]] = defaultdict(lambda: defaultdict(_Cell))
    repairs: dict[tuple[str, str], _Repair] = defaultdict(_Repair)
    counts: dict[tuple[str, str], list[bool]] = defaultdict(list)
    checks = {each.check.name: each for each in named(*_COLUMNS, "tool_calls")}
    for row in _rows(folder / "taskmix-records.jsonl.gz"):
        if row["correct"] is None:
            continue
        key, is_right = (row["task"], row["tier"]), row["correct"] >= 0.5
        counts[key].append(is_right)
        judged = _judged(row, requests[row["request_id"]], repairs[key], is_right=is_right)
        for name in _applicable(row, requests[row["request_id"]]):
            is_call = name == "schema" and bool(judged.asked.tools)
            each = checks["tool_calls" if is_call else name]
            said = each.check.run(judged, each.parameters)
            cells[key][name].note(is_right=is_right, said=said)
    tasks = list(dict.fromkeys(task for task, _ in counts))
    in_order = sorted(counts, key=lambda at: (tasks.index(at[0]), Tier(at[1]).rank))
    counts = {key: counts[key] for key in in_order}
    yield from _table(counts, cells)
    yield from _repaired(counts, repairs)
    yield from _out_of_line(cells)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from (json.loads(line) for line in lines)


def _applicable(row: Mapping[str, Any], request: Mapping[str, Any]) -> Iterator[str]:
    for name in _COLUMNS:
        if name == "confidence":
            if row.get("confidence") is not None:
                yield name
        elif row.get("output") is None or (name == "schema" and not request["schema"]):
            continue
        elif name not in _OF_QUESTION or request["input"]:
            yield name


def _judged(
    row: Mapping[str, Any], request: Mapping[str, Any], repair: _Repair, *, is_right: bool
) -> Judged:
    """A recorded answer as a worker would see it."""
    wanted, text = request["schema"] or {}, row.get("output") or ""
    body: dict[str, Any] = {"messages": [{"role": "user", "content": request["input"] or ""}]}
    output: Mapping[str, Any] | None = normalise_text(text)
    schema: dict[str, Any] | None = None
    calls: list[dict[str, Any]] | None = None
    if "functions" in wanted:
        body["tools"] = [{"function": _json_schema(one)} for one in wanted["functions"]]
        calls = _calls(normalise_text(text)["answer"])
        if "relevance" not in row["task"]:  # where making no call is the right answer
            body["tool_choice"] = "required"
            is_plain = _calls(text) is not None
            _note(repair, is_plain=is_plain, found=calls, is_right=is_right)
    elif "required" in wanted:
        answer = {"enum": wanted["answer_enum"]} if "answer_enum" in wanted else {}
        schema = {"required": wanted["required"], "properties": {"Answer": answer}}
        output = normalise_json(text)
        _note(repair, is_plain=_is_json(text), found=output, is_right=is_right)
    elif "enum" in wanted:
        schema = {"properties": {"answer": {"enum": wanted["enum"]}}}
    message = {"content": text, "tool_calls": calls or []}
    return Judged(
        reply=Reply("" if calls else text, "stop", Usage(), {"choices": [{"message": message}]}),
        output={"tool_calls": calls} if calls else output,
        validator=compile_schema(json.dumps(schema).encode()) if schema else None,
        confidence=row.get("confidence"),
        accept=the_policy().tiers[Tier(row["tier"])].accept,
        asked=Asked(Request.model_validate({"input": body})),
        calls_tools=bool(calls),
    )


def _note(repair: _Repair, *, is_plain: bool, found: object, is_right: bool) -> None:
    if not is_plain:
        repair.wrapped += 1
        repair.content += is_right
        repair.after += is_right and found is not None


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _json_schema(value: Any) -> Any:
    """A function's description with the types of JSON Schema."""
    if isinstance(value, list):
        return [_json_schema(item) for item in value]
    if not isinstance(value, dict):
        return value
    kind = value.get("type")
    made = {name: _json_schema(item) for name, item in value.items()}
    if isinstance(kind, str):
        made["type"] = _TYPES.get(kind, kind)
        if kind == "any":
            del made["type"]
    return made


def _calls(text: str) -> list[dict[str, Any]] | None:
    """Calls written as in Python, `[f(a=1), g(b=2)]`, as tool calls; None for anything else."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        calls = tree.elts if isinstance(tree, ast.List) else [tree]
        return [_call(call) for call in calls]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _call(node: ast.expr) -> dict[str, Any]:
    if not isinstance(node, ast.Call) or node.args:
        msg = "a call with named arguments was expected"
        raise ValueError(msg)
    arguments = {str(each.arg): _value(each.value) for each in node.keywords}
    name = ast.unparse(node.func)
    return {"function": {"name": name, "arguments": json.dumps(arguments)}}


def _value(node: ast.expr) -> Any:
    """A literal; a name stands for itself, as models write true and bare words."""
    if isinstance(node, ast.Name):
        return _WORDS.get(node.id.lower(), node.id)
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        return {str(_value(k)): _value(v) for k, v in zip(node.keys, node.values, strict=True) if k}
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def _table(
    counts: Mapping[tuple[str, str], Sequence[bool]],
    cells: Mapping[tuple[str, str], Mapping[str, _Cell]],
) -> Iterator[str]:
    yield "share of wrong answers rejected / share of right ones rejected, in percent"
    yield f"{'task':<24}{'tier':<10}{'n':>6}{'right':>8}" + "".join(f"{n:>12}" for n in _COLUMNS)
    for (task, tier), rights in counts.items():
        found = cells[task, tier]
        shares = "".join(f"{_pair(found.get(name)):>12}" for name in _COLUMNS)
        right = _percent(sum(rights) / len(rights))
        yield f"{task:<24}{tier:<10}{len(rights):>6}{right:>8}{shares}"
    for tier in Tier:
        all_of = _Cell()
        for (_, at), found in cells.items():
            if at == tier and "schema" in found:
                for is_right in (True, False):
                    all_of.seen[is_right] += found["schema"].seen[is_right]
                    all_of.rejected[is_right] += found["schema"].rejected[is_right]
        yield f"schema check, {tier}, every task with a format: {_pair(all_of)}"


def _repaired(
    counts: Mapping[tuple[str, str], Sequence[bool]], repairs: Mapping[tuple[str, str], _Repair]
) -> Iterator[str]:
    yield ""
    yield "answers in fences or prose: accuracy of what can be read, before repair and after"
    yield f"{'task':<24}{'tier':<10}{'wrapped':>8}{'before':>9}{'after':>9}{'of content':>12}"
    for (task, tier), rights in counts.items():
        repair = repairs[task, tier]
        if repair.wrapped:
            content = sum(rights)
            plain = content - repair.content
            shares = (plain / len(rights), (plain + repair.after) / len(rights))
            shown = "".join(f"{_percent(share):>9}" for share in shares)
            last = f"{_percent(content / len(rights)):>12}"
            yield f"{task:<24}{tier:<10}{repair.wrapped:>8}{shown}{last}"


def _out_of_line(cells: Mapping[tuple[str, str], Mapping[str, _Cell]]) -> Iterator[str]:
    yield ""
    yield f"schema check, more than {_percent(_MOST_RIGHT_REJECTED)} % of right answers rejected:"
    for (task, tier), found in cells.items():
        cell = found.get("schema", _Cell())
        share = cell.share(is_right=True) or 0.0
        if share > _MOST_RIGHT_REJECTED:
            why = "; ".join(f"{times} times {said}" for said, times in cell.why.most_common(3))
            yield f"  {task} {tier}: {_percent(share)} %: {why}"


def _pair(cell: _Cell | None) -> str:
    if cell is None:
        return "-"
    return f"{_percent(cell.share(is_right=False))}/{_percent(cell.share(is_right=True))}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share * 100:.1f}"

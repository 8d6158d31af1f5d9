"""`tierline policy calibrate`: thresholds from answers that are known to be right or wrong."""

from array import array
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from consumers.cli.common import FAILED, AsJson, UserError
from consumers.cli.terminal import console, print_json, print_table, reading_bar
from router.reports.calibration import Calibration, lowest_threshold
from schemas.base import Tier
from schemas.errors import ContractError
from schemas.json_text import parse_json

__all__ = ["calibrate"]

#: Lines between two updates of the progress bar.
_SHOWN_EACH = 1_000
_FIELDS = 'an object like {"task": "triage", "tier": "low", "confidence": 0.8, "right": true}'


def calibrate(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.jsonl", help="A file with one judged answer per line.")
    ],
    wrong: Annotated[
        float,
        typer.Option(
            metavar="SHARE", min=0, max=1, help="Accept at most this share of wrong answers."
        ),
    ] = 0.02,
    as_json: AsJson = False,
) -> None:
    """Find the confidence each tier needs per task to keep wrong answers rare, 95 % sure."""
    # Confidences by task and tier: of the right answers, and of the wrong ones.
    answers: dict[tuple[str, Tier], dict[bool, array[float]]] = defaultdict(
        lambda: {True: array("d"), False: array("d")}
    )
    for task, tier, confidence, is_right in _lines(file):
        answers[task, tier][is_right].append(confidence)
    if not answers:
        msg = f"{file}: it has no answers; {_FIELDS} is expected on each line"
        raise UserError(msg)
    order = sorted(answers, key=lambda key: (key[0], key[1].rank))
    rows = []
    lines: dict[str, dict[str, float]] = defaultdict(dict)
    for task, tier in order:
        by_truth = answers[task, tier]
        pairs = ((sure, is_right) for is_right, all_ in by_truth.items() for sure in all_)
        calibration = lowest_threshold(pairs, wrong)
        if calibration is not None:
            lines[task][str(tier)] = calibration.threshold
        rows.append(
            {
                "task": task,
                "tier": str(tier),
                "answers": sum(map(len, by_truth.values())),
                **_row(calibration),
            }
        )
    if as_json:
        print_json({"wrong": wrong, "rows": rows, "accept": lines})
    else:
        shown = [{k: "-" if v is None else v for k, v in row.items()} for row in rows]
        print_table(shown, tuple(rows[0]), title=f"at most {wrong:g} wrong, 95 % sure")
        for task, accept in lines.items():
            thresholds = ", ".join(f"{tier}: {least!r}" for tier, least in accept.items())
            console().print(f"{task}: accept: {{{thresholds}}}", soft_wrap=True)
            judged = sum(len(sure) for tier in Tier for sure in answers[task, tier].values())
            because = f"fitted to {judged:,} judged answers with at most {wrong:g} wrong"
            console().print(f"{task}: accept_because: {because}", soft_wrap=True)
    raise typer.Exit(0 if lines else FAILED)


def _row(calibration: Calibration | None) -> dict[str, float | None]:
    if calibration is None:
        names = ("threshold", "accepted", "wrong", "at_most_wrong", "coverage")
        return dict.fromkeys(names)
    return {
        "threshold": calibration.threshold,
        "accepted": calibration.accepted,
        "wrong": calibration.wrong,
        "at_most_wrong": round(calibration.bound, 4),
        "coverage": round(calibration.coverage, 4),
    }


def _lines(file: Path) -> Iterator[tuple[str, Tier, float, bool]]:
    """The judged answers of a file. Raises OSError."""
    size = file.stat().st_size
    with file.open("rb") as lines, reading_bar() as seen:
        for number, line in enumerate(lines, 1):
            if number % _SHOWN_EACH == 0:
                seen(lines.tell(), size)
            if line.strip():
                yield _answer(line, f"{file}:{number}")


def _answer(line: bytes, where: str) -> tuple[str, Tier, float, bool]:
    try:
        fields = parse_json(line)
    except ContractError:
        fields = None
    match fields:
        case {
            "task": str(task),
            "tier": "low" | "balanced" | "premium" as tier,
            "confidence": (int() | float()) as sure,
            "right": bool(is_right),
        } if not isinstance(sure, bool) and 0 <= sure <= 1:
            return task, Tier(tier), float(sure), is_right
        case _:
            msg = f"{where}: {_FIELDS} is expected here"
            raise UserError(msg)

"""The time machine: past requests decided again, and priced by what such answers have cost.

A request is decided as of when it was appended, so a release always decides it alike. Chances and
costs come from the answers that were given; `UNKNOWN` says what they cannot tell.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from math import sqrt
from typing import NamedTuple

from router.policy.table import Policy
from router.reports.measures import Row, cost_at
from router.request.signals import Signals, measure
from router.route.ladders import ladder
from router.route.routing import GiveUp, route
from schemas.base import Tier
from schemas.escalation import Classification
from schemas.reasons import Reason
from schemas.request import Request

__all__ = ["UNKNOWN", "Course", "Place", "Redecided", "courses"]

UNKNOWN: Sequence[str] = (
    "whether an accepted answer is right: it passed its checks, and nobody complained in time",
    "how a tier does on requests that it was never given: those that it had may be easier",
    "what another prompt does: the recorded answers were given by the prompts of their time",
    "what people, waiting, retries and the classify step cost: only answering calls are priced",
)
#: Fewer answers of a task at a tier say less than those of all tasks there.
_ENOUGH = 20
#: The 97.5th percentile of the normal distribution: two sides, 95 % sure.
_SURE = 1.959963984540054
_EXAMPLES = 3


class Place(NamedTuple):
    """Where requests go: what they are taken for, and the tiers that may be asked in turn."""

    #: None while the classify step has yet to find it.
    task: str | None
    path: tuple[Tier, ...]
    #: A person approves the answer.
    person: bool = False
    #: Why no tier takes them, so that a person decides.
    refused: Reason | None = None

    @property
    def words(self) -> str:
        """The place as people name it."""
        if self.refused is not None:
            return f"a person, for {self.refused}"
        path = ", then ".join(self.path)
        task = self.task or "a request to be classified"
        return f"{task} at {path}{', approved by a person' if self.person else ''}"


@dataclass(slots=True)
class Redecided:
    """What two policies make of the same requests; its size does not depend on their number."""

    policies: tuple[Policy, Policy]
    requests: int = 0
    #: By policy, how many requests go where.
    places: tuple[Counter[Place], Counter[Place]] = field(
        default_factory=lambda: (Counter(), Counter())
    )
    #: Requests that go elsewhere by the second one, and a few of their ids.
    moved: Counter[tuple[Place, Place]] = field(default_factory=Counter)
    examples: dict[tuple[Place, Place], list[str]] = field(default_factory=dict)
    _paths: dict[tuple[object, ...], tuple[Tier, ...]] = field(default_factory=dict)

    def take(
        self, request: Request, at: datetime, classification: Classification | None = None
    ) -> None:
        """Decide one more request, which was appended at an instant.

        `classification` is what the classify step said of it then, where anybody knows.
        """
        self.requests += 1
        signals = measure(request)
        was, now = (self._place(request, no, at, classification, signals) for no in range(2))
        self.places[0][was] += 1
        self.places[1][now] += 1
        if was != now:
            self.moved[was, now] += 1
            ids = self.examples.setdefault((was, now), [])
            if len(ids) < _EXAMPLES:
                ids.append(request.id)

    def _place(
        self,
        request: Request,
        no: int,
        at: datetime,
        classification: Classification | None,
        signals: Signals,
    ) -> Place:
        """Where one of the policies sends a request."""
        policy = self.policies[no]
        decided = route(
            request, policy, at, classification=classification, accepted_at=at, measured=signals
        )
        if isinstance(decided, GiveUp):
            return Place(None, (), refused=decided.reason)
        task = decided.task
        if task is None:
            return Place(None, (decided.tier,))
        plan = request.plan if request.plan in policy.plans else None
        key = (no, decided.tier, decided.wanted, task, plan, bool(request.justification))
        if (path := self._paths.get(key)) is None:
            path = (decided.tier, *ladder(decided.tier, task, request, policy, decided.wanted))
            self._paths[key] = path
        return Place(task, path, decided.needs_person or policy.tasks[task].approval == "person")


class Course(NamedTuple):
    """One way to route all requests: its cost, and the share that ends with an accepted answer.

    With a probability of 95 % each lies `within` so much, as far as the recorded answers tell, and
    if the costs of answers differ by as much as their mean.
    """

    name: str
    micros: float
    micros_within: float
    accepted: float
    accepted_within: float
    #: The share of requests for whose tier nothing is recorded.
    unpriced: float


#: A task, None for all of them, and a tier.
_Cell = tuple[str | None, str]
#: Cost, accepted answers and priced requests.
_Sums = tuple[float, float, float]
#: A cell of the recorded answers whose chance and cost are moved, and by how much.
_Moved = tuple[_Cell, float, float] | None


def courses(redecided: Redecided, recorded: Iterable[Row]) -> list[Course]:
    """Both policies, and three simple ways beside them: without climbing, for comparison.

    All requests at the lowest tier, all at the highest, and a mix of these two by lot that costs
    what the second policy does. `recorded` are the figures by task and tier.
    """
    cells: dict[_Cell, Row] = {}
    for row in recorded:
        task, tier = row.name
        if row.answers:
            cells[task, tier] = row
            cells.setdefault((None, tier), Row((tier,))).add(row)
    old, policy = redecided.policies
    before = partial(_sums, cells, old, redecided.places[0])
    after = partial(_sums, cells, policy, redecided.places[1])
    tiers = [*policy.tiers]
    tasks = Counter[str | None]()
    for place, count in redecided.places[1].items():
        tasks[place.task] += count if place.path else 0
    low, high = (
        partial(_sums, cells, policy, {Place(task, (tier,)): tasks[task] for task in tasks})
        for tier in (tiers[0], tiers[-1])
    )

    def by_lot(moved: _Moved) -> _Sums:
        cheap, dear, wanted = low(moved), high(moved), after(moved)[0]
        range_ = dear[0] - cheap[0]
        share = min(max((wanted - cheap[0]) / range_, 0.0), 1.0) if range_ else 0.0
        if not min(cheap[2], dear[2]):
            return 0.0, 0.0, 0.0  # of one of them nothing is recorded
        micros, accepted, priced = (a + share * (b - a) for a, b in zip(cheap, dear, strict=True))
        return micros, accepted, priced

    ways: Mapping[str, Callable[[_Moved], _Sums]] = {
        f"as by {old.version}": before,
        f"as by {policy.version}, the candidate": after,
        f"all at {tiers[0]}": low,
        f"all at {tiers[-1]}": high,
        "low or high by lot, for the candidate's cost": by_lot,
    }
    return [_course(name, way, cells, redecided.requests) for name, way in ways.items()]


def _course(
    name: str, way: Callable[[_Moved], _Sums], cells: Mapping[_Cell, Row], requests: int
) -> Course:
    """A way with its uncertainty: each figure is moved by its error, one after the other."""
    micros, accepted, priced = way(None)
    variances = [0.0, 0.0]
    for cell, row in cells.items():
        chance = _chance(row)
        error = sqrt(chance * (1 - chance) / (row.answers + 3))
        for moved in ((cell, error, 0.0), (cell, 0.0, 1 / sqrt(row.answers))):
            other = way(moved)
            variances[0] += (other[0] - micros) ** 2
            variances[1] += (other[1] - accepted) ** 2
    within = [_SURE * sqrt(variance) for variance in variances]
    of, unpriced = priced or 1, 1 - priced / requests if requests else 0.0
    return Course(name, micros, within[0], accepted / of, within[1] / of, unpriced)


def _sums(
    cells: Mapping[_Cell, Row], policy: Policy, places: Mapping[Place, int], moved: _Moved
) -> _Sums:
    """What these places cost: an answer that is not accepted climbs, and is paid for."""
    micros = accepted = 0.0
    priced = 0
    for place, count in places.items():
        reached = float(count)
        for no, tier in enumerate(place.path):
            cell: _Cell = (place.task, tier)
            if cell not in cells or cells[cell].answers < _ENOUGH:
                cell = (None, tier)
            if cell not in cells:
                break
            row = cells[cell]
            chance, cost = _chance(row), cost_at(row, policy, tier, place.task) / row.answers
            if moved is not None and moved[0] == cell:
                chance, cost = chance + moved[1], cost * (1 + moved[2])
            priced += count if no == 0 else 0
            micros += reached * cost
            accepted += reached * chance
            reached *= 1 - chance
    return micros, accepted, priced


def _chance(row: Row) -> float:
    """The chance that such an answer is accepted."""
    return (row.answers - row.by_check + 1) / (row.answers + 2)

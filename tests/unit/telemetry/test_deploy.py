"""Dashboards, alerts and the collector's file speak of what is really there."""

import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import product
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from consumers.runtime.metrics import Instruments, PartitionFigures, ReviewFigures, tell_review
from consumers.telemetry import names
from consumers.telemetry.counters import Counters
from consumers.telemetry.names import METRICS
from schemas.attempt import Attempt, Step
from schemas.base import Tier
from schemas.status import ModelStatus, RefusedStatus
from tests.builders import policies_of

DEPLOYED = Path(__file__).parents[3] / "deploy" / "telemetry"
BOARDS = {
    path.name: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((DEPLOYED / "grafana").glob("*.json"))
}
ALERTS = [
    rule
    for group in yaml.safe_load((DEPLOYED / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
COLLECTOR = yaml.safe_load((DEPLOYED / "collector.yaml").read_text(encoding="utf-8"))
README = (DEPLOYED / "README.md").read_text(encoding="utf-8")


# ----- what a process serves to Prometheus


@dataclass(frozen=True, slots=True)
class _Series:
    """One name on the page: the question it answers, its labels and what they have said."""

    question: str
    labels: dict[str, set[str]]


_Page = Mapping[str, _Series]

#: What attributes say, where an expression asks for one value of them.
_SAID = {
    (names.ATTEMPTS, names.OUTCOME): get_args(Attempt.model_fields["outcome"].annotation),
    (names.ROUTES, names.TASK): get_args(Step),
}
_BUSY = PartitionFigures(
    stage="route",
    topic="llm.intake",
    partition=0,
    lag=10,
    oldest_age_seconds=2.5,
    in_flight=3,
    unfinished=4,
    last_commit_ms=12.0,
    committed_offset=77,
)
_REFUSED = RefusedStatus(tier=Tier.LOW, policy_version="1", policy_digest="a", waiting=2)
_OUT = ModelStatus(model="any", provider="any", breaker="open", wait_seconds=9, most_running=4)


@pytest.fixture(scope="module")
def page() -> Iterator[_Page]:
    """Every metric of ours with all its attributes, and what the library says of lost spans."""
    registry = CollectorRegistry()
    meters = MeterProvider([PrometheusMetricReader(registry=registry)], shutdown_on_exit=False)
    meter, counters = meters.get_meter("tests"), Counters()
    counters.export_to(meter)
    release = policies_of().active
    Instruments(
        *(meter, counters, lambda: [_BUSY], lambda: [_OUT], lambda: [_REFUSED], lambda: [release]),
        lambda: [("support", 1)],
    )
    tell_review(meter, lambda: [ReviewFigures("high", 3, 2, 60.0)])
    for metric in METRICS.values():
        for said in product(*(_SAID.get((metric.name, by), ("any",)) for by in metric.by)):
            if metric.kind == "counter":
                counters.add(metric.name, 1, *said)
            elif metric.kind == "histogram":
                counters.record(metric.name, 1, dict(zip(metric.by, said, strict=True)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
        _lose_spans(meters)

    yield _read(generate_latest(registry).decode())
    meters.shutdown()


class _Refusal(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.send_error(400)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  not our name
        """Say nothing."""


def _lose_spans(meters: MeterProvider) -> None:
    """One is refused, one is too large to be sent, one comes when all is over."""
    with HTTPServer(("127.0.0.1", 0), _Refusal) as backend:
        answering = threading.Thread(target=backend.handle_request)
        answering.start()
        url = f"http://127.0.0.1:{backend.server_port}/v1/traces"
        for most in (None, 1):
            tracers = TracerProvider(shutdown_on_exit=False, meter_provider=meters)
            exporter = OTLPSpanExporter(url, max_request_size=most, meter_provider=meters)
            tracers.add_span_processor(BatchSpanProcessor(exporter, meter_provider=meters))
            tracer = tracers.get_tracer("tests")
            late = tracer.start_span("late")
            tracer.start_span("lost").end()
            tracers.shutdown()
            late.end()
        answering.join()


def _read(text: str) -> _Page:
    found: dict[str, _Series] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            series = found.setdefault(sample.name, _Series(family.documentation, {}))
            for label, said in sample.labels.items():
                series.labels.setdefault(label, set()).add(said)
    return found


# ----- what an expression asks for

_TOKEN = re.compile(r'"[^"]*"|[a-zA-Z_:][\w:]*|\d[\w.]*|[=!><]=|=~|!~|\S')
_NAME = re.compile(r"[a-zA-Z_:]")
_FUNCTIONS = frozenset(
    (
        "absent", "changes", "clamp_min", "delta", "deriv", "histogram_quantile", "increase",
        "last_over_time", "max", "min", "rate", "sum", "vector",
    )
)  # fmt: skip
_OPERATORS = frozenset(("and", "or", "unless", "offset"))
#: Prometheus sets these itself.
_TARGET = frozenset(("job", "instance"))


class _Expression:
    """As much of PromQL as our files use; a word it does not know counts as a metric's name."""

    def __init__(self, text: str) -> None:
        self._tokens = _TOKEN.findall(text.replace("$__rate_interval", "1m"))
        #: The labels of each `by`, and which tokens they are the labels of.
        self._groups: list[tuple[set[str], range]] = []
        #: Metric, label, and the value it is compared with.
        self.compared: list[tuple[str, str, str]] = []
        #: Metric and label.
        self.grouped: set[tuple[str, str]] = set()
        self.metrics: list[str] = []
        at = 0
        while at < len(self._tokens):
            at = self._take(at)

    @property
    def kept(self) -> set[str]:
        """The labels that a result has."""
        inner = [set(span) for _, span in self._groups]
        outermost = [
            labels for labels, span in self._groups if not any(set(span) < other for other in inner)
        ]
        return set().union(*outermost) - {"le"}

    def _take(self, at: int) -> int:
        """Read one thing; where the next one begins."""
        token, following = self._tokens[at], "".join(self._tokens[at + 1 : at + 2])
        if token == "[":
            return self._close(at)
        if token == "by":
            end = self._close(at + 1)
            labels = {word for word in self._tokens[at + 2 : end] if word not in ",)"}
            self._groups.append((labels, range(end, self._close(end))))
            return end
        if not _NAME.match(token) or token in _OPERATORS:
            return at + 1
        if following in ("(", "by") and token in _FUNCTIONS:
            return at + 1
        self.metrics.append(token)
        around = [labels for labels, span in self._groups if at in span]
        self.grouped |= {(token, label) for label in set().union(*around)}
        return self._compare(token, at + 1) if following == "{" else at + 1

    def _compare(self, metric: str, at: int) -> int:
        end = self._close(at)
        words = [word for word in self._tokens[at + 1 : end - 1] if word != ","]
        for label, operator, said in zip(words[::3], words[1::3], words[2::3], strict=True):
            assert operator in ("=", "!="), f"{operator} is not read here"
            self.compared.append((metric, label, said.strip('"')))
        return end

    def _close(self, at: int) -> int:
        """Where things go on after the bracket that opens here."""
        depth = 0
        for end in range(at, len(self._tokens)):
            depth += (self._tokens[end] in "([{") - (self._tokens[end] in ")]}")
            if depth == 0:
                return end + 1
        msg = f"a bracket is open: {' '.join(self._tokens[at:])}"
        raise AssertionError(msg)


def _faults(text: str, page: _Page, told: str = "") -> list[str]:
    """What is wrong with an expression and with the labels that a text about it names."""
    expression = _Expression(text)
    faults = [f"no metric {name}" for name in expression.metrics if name not in page]
    labels = {(metric, label) for metric, label, _ in expression.compared} | expression.grouped
    known = {name: {*series.labels, *_TARGET} for name, series in page.items()}
    faults += [
        f"no label {label} on {metric}"
        for metric, label in sorted(labels)
        if metric in page and label not in known[metric]
    ]
    faults += [
        f"{metric} never says {label}={said}"
        for metric, label, said in expression.compared
        if said and metric in page and said not in page[metric].labels.get(label, ())
    ]
    named = re.findall(r"\{\{\s*(?:\$labels\.)?([a-z]\w*)", told)
    faults += [f"no label {label} in the result" for label in named if label not in expression.kept]
    return faults if expression.metrics else ["no metric at all"]


# ----- dashboards


def _panels(board: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


_PANELS = [
    pytest.param(panel, id=f"{name}: {panel['title']}")
    for name, board in BOARDS.items()
    for panel in _panels(board)
]


@pytest.mark.parametrize("panel", _PANELS)
def test_a_panel_asks_for_metrics_and_labels_that_exist(
    panel: Mapping[str, Any], page: _Page
) -> None:
    assert panel["targets"]
    for target in panel["targets"]:
        assert _faults(target["expr"], page, target["legendFormat"]) == []


@pytest.mark.parametrize("panel", _PANELS)
def test_a_panel_asks_one_question_of_the_chosen_data_source(panel: Mapping[str, Any]) -> None:
    assert "?" in panel["title"]
    sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
    assert all(one == {"type": "prometheus", "uid": "${datasource}"} for one in sources)


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_a_board_lets_one_choose_its_data_source_and_lays_its_panels_side_by_side(
    board: Mapping[str, Any],
) -> None:
    [variable] = board["templating"]["list"]
    assert (variable["name"], variable["type"], variable["query"]) == (
        "datasource",
        "datasource",
        "prometheus",
    )
    ids = [panel["id"] for panel in board["panels"]]
    titles = [panel["title"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    assert len(set(titles)) == len(titles)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in board["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_every_metric_has_a_panel_of_its_question_or_is_named_as_not_charted(page: _Page) -> None:
    asked = {
        (panel["title"], page[metric].question)
        for board in BOARDS.values()
        for panel in _panels(board)
        for target in panel["targets"]
        for metric in _Expression(target["expr"]).metrics
    }
    left_out = re.search(r"Not charted: (.*?)\.\s", README, re.DOTALL)
    assert left_out is not None
    named = set(re.findall(r"`([^`]+)`", left_out[1]))

    questions = [metric.question for metric in METRICS.values()]
    charted = {metric.name for metric in METRICS.values() if (metric.question,) * 2 in asked}
    assert len(set(questions)) == len(questions), "the questions tell the metrics apart"
    assert charted | named == METRICS.keys()
    assert not charted & named


# ----- alerts


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: str(rule["alert"]))
def test_an_alert_asks_for_what_exists_and_says_what_to_do(
    rule: Mapping[str, Any], page: _Page
) -> None:
    told = rule["annotations"]
    assert _faults(rule["expr"], page, f"{told['summary']} {told['description']}") == []
    assert rule["alert"].startswith("Tierline")
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert re.fullmatch(r"\d+[ms]", rule.get("for", "0m"))
    assert len(told["summary"]) < len(told["description"])


def test_no_two_alerts_have_one_name() -> None:
    assert len({rule["alert"] for rule in ALERTS}) == len(ALERTS)


# ----- whether these tests would notice


@pytest.mark.parametrize(
    ("text", "told", "fault"),
    [
        ("sum(rate(tierline_request_total[5m]))", "", "no metric tierline_request_total"),
        ("sum(rate(tierline_cost_total[5m]))", "", "no metric tierline_cost_total"),
        ("rates(tierline_requests_total[5m])", "", "no metric rates"),
        (
            "sum by (tierline_teir) (rate(tierline_requests_total[5m]))",
            "",
            "no label tierline_teir on tierline_requests_total",
        ),
        (
            "sum by (tierline_tier) (tierline_consumer_lag / tierline_requests_total)",
            "",
            "no label tierline_tier on tierline_consumer_lag",
        ),
        (
            "sum by (le) (rate(tierline_request_duration_seconds_count[5m]))",
            "",
            "no label le on tierline_request_duration_seconds_count",
        ),
        (
            'tierline_attempts_total{tierline_outcom="accepted"}',
            "",
            "no label tierline_outcom on tierline_attempts_total",
        ),
        (
            'tierline_attempts_total{tierline_outcome="acepted"}',
            "",
            "tierline_attempts_total never says tierline_outcome=acepted",
        ),
        (
            "sum by (tierline_tier) (max by (tierline_task) (tierline_requests_total))",
            "{{tierline_task}}",
            "no label tierline_task in the result",
        ),
        ("vector(1)", "", "no metric at all"),
    ],
)
def test_a_slip_is_noticed(text: str, told: str, fault: str, page: _Page) -> None:
    assert fault in _faults(text, page, told)


def test_what_is_right_is_left_alone(page: _Page) -> None:
    """Grouping, comparing, quantiles, offsets and instants of several metrics."""
    text = (
        "histogram_quantile(0.95, sum by (le, tierline_tier) ("
        'rate(tierline_request_duration_seconds_bucket{tierline_task!=""}[$__rate_interval]))) > 1 '
        "unless sum by (tierline_tier) (tierline_requests_total offset 15m)"
    )
    assert _faults(text, page, "{{tierline_tier}} {{ $labels.tierline_tier }}") == []


# ----- the collector


@pytest.mark.parametrize("kind", ["receivers", "processors", "exporters"])
def test_pipelines_are_made_of_what_is_defined_and_use_all_of_it(kind: str) -> None:
    pipelines = COLLECTOR["service"]["pipelines"].values()
    assert {name for pipeline in pipelines for name in pipeline[kind]} == COLLECTOR[kind].keys()


def test_the_collector_guards_its_memory_first_and_batches_last() -> None:
    assert COLLECTOR["service"]["pipelines"].keys() == {"traces", "metrics"}
    for pipeline in COLLECTOR["service"]["pipelines"].values():
        assert pipeline["processors"][0] == "memory_limiter"
        assert pipeline["processors"][-1] == "batch"
    assert set(COLLECTOR["service"]["extensions"]) == COLLECTOR["extensions"].keys()


def test_the_collector_speaks_what_we_speak_where_we_say_it() -> None:
    ports = {
        name: protocol["endpoint"].rpartition(":")[2]
        for name, protocol in COLLECTOR["receivers"]["otlp"]["protocols"].items()
    }
    assert ports == {"http": "4318", "grpc": "4317"}
    assert COLLECTOR["exporters"]["prometheus"]["endpoint"].endswith(":9464")


def test_the_collector_masks_every_field_that_carries_what_was_said() -> None:
    patterns = COLLECTOR["processors"]["redaction/content"]["blocked_key_patterns"]
    for name in (names.INPUT_MESSAGES, names.OUTPUT_MESSAGES):
        assert any(re.search(pattern, name) for pattern in patterns)
    kept = COLLECTOR["processors"]["redaction/secrets"]["ignored_keys"]
    assert {names.CONVERSATION, names.GEN_AI_CONVERSATION, names.ATTEMPT_ID} <= set(kept)


def test_the_readme_names_every_file_and_every_variable_of_the_collector() -> None:
    files = [str(path.relative_to(DEPLOYED)) for path in DEPLOYED.rglob("*.*")]
    variables = _variables(COLLECTOR)
    assert variables == {"TRACES_ENDPOINT", "COLLECTOR_HOST"}
    for word in (*files, *variables):
        assert word == "README.md" or f"`{word}" in README


def _variables(value: Any) -> set[str]:
    if isinstance(value, str):
        return set(re.findall(r"\$\{env:(\w+)", value))
    inner: Sequence[Any] = ()
    if isinstance(value, dict):
        inner = list(value.values())
    elif isinstance(value, list):
        inner = value
    return set().union(*(_variables(one) for one in inner))

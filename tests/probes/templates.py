"""Templates of prompts that would run long or grow: refused with file, line and words."""

import time
import tracemalloc

from router.errors import PromptError
from router.prompts.rendering import Prompts
from tests.probes.report import ProbeClass, Report

__all__ = ["CLASS"]

MOST_SECONDS = 0.25
MOST_BYTES = 64 << 20
_CONTRACT = (
    "version: 1\nformat: answer\nsays: Answer the question, please.\nrules: [one, two, three, four,"
    " five, six, seven]\nvariants: {low: 1}\n"
)
_FIVE = "{% for a in rules %}" * 5 + "x" + "{% endfor %}" * 5

_TEMPLATES = (
    "{% for x in range(10**9) %}x{% endfor %}",
    "{% for x in range(99999) %}{% for y in range(99999) %}x{% endfor %}{% endfor %}",
    '{{ "x" * 10**9 }}', '{{ says * 1000000000 }}', "{{ [1] * 10**9 }}", "{{ 9**9**9**9 }}",
    '{{ "x"|center(1000000000) }}', "{{ says|center(1000000000) }}", "{{ says|wordwrap(1) }}",
    '{{ says|indent(1000000000) }}', "{{ says|indent(width=1000000000) }}",
    '{{ "a" * 9|int }}', '{{ "%1000000000d" % 1 }}', '{{ "%1000000000d"|format(1) }}',
    '{{ "{:>1000000000}".format(1) }}', '{{ "x".ljust(1000000000) }}', '{{ "x".join(says) }}',
    '{{ says|replace("", "' + "x" * 30_000 + '")|replace("x", "' + "y" * 900 + '") }}',
    '{{ rules|join("' + "x" * 20_000 + '")|replace("x", "' + "y" * 50 + '") }}',
    "{% set says = says ~ says %}" * 40 + "{{ says }}",
    "{% set says = says + says %}" * 40 + "{{ says }}",
    "{% set says %}{{ says }}{{ says }}{% endset %}" * 40 + "{{ says }}",
    "{% set says = [says, says] %}" * 40 + "{{ says }}",
    '{% set says = {"a": says, "b": says} %}' * 40 + "{{ says }}",
    "{% set says = says|tojson %}" * 40 + "{{ says }}",
    "{% set says = says|list|string %}" * 30 + "{{ says }}",
    '{% set says = says|replace("i", "iiiiiiiii") %}' * 12 + "{{ says }}",
    "{% set says = says|list|join(says) %}" * 8 + "{{ says }}",
    "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
    "{% for a in tasks.items() recursive %}{{ loop(tasks.items()) }}{% endfor %}",
    _FIVE, _FIVE.replace("x", "{{ says }}" * 50), "{% for a in rules %}" * 40 + "{% endfor %}" * 40,
    "{% for a in rules %}{{ context.history }}{% endfor %}",
    "{% set c = context %}{% for a in rules %}{{ c.history }}{% endfor %}",
    "{% set c = context.history|default(says) %}{% for a in rules %}{{ c }}{% endfor %}",
    "{% for a in context.history %}{% for b in context.history %}x{% endfor %}{% endfor %}",
    "{{ lipsum(n=99999999) }}", "{% set n = namespace(a=1) %}", "{{ cycler(says) }}",
    "{{ dict() }}",
    '{% include "x" %}', '{% extends "x" %}', '{% import "x" as x %}',
    "{% block x %}{% endblock %}",
    "{{ " + "(" * 5_000 + "1" + ")" * 5_000 + " }}", "{{ " + "9" * 6_000 + " }}",
    "{% if 1 %}" * 1_500 + "{% endif %}" * 1_500, "{{ says" + "|upper" * 4_000 + " }}",
    "{{ says" + ".a" * 10_000 + " }}", "{{ [" + "1," * 10_000 + "says] }}", "x" * 100_000,
    "{{ rules|map('center', 1000000000)|join }}", "{{ says|batch(1000000000, 'x')|list }}",
    "{{ says|slice(1000000000)|list }}", "{{ 'x'|urlize(10) }}", "{{ says|attr('__class__') }}",
    "{{ ''.__class__.__mro__ }}", "{{ _budget.step() }}", "{{ self._TemplateReference__context }}",
)  # fmt: skip


def _read(files: dict[str, str]) -> tuple[str, float, int]:
    said, took = "", float("inf")
    for _ in range(3):  # a busy machine takes longer now and then
        began = time.thread_time()
        said = _loaded(files)
        took = min(took, time.thread_time() - began)
        if took <= MOST_SECONDS:
            break
    tracemalloc.start()  # which makes everything slower
    _loaded(files)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return said, took, most


def _loaded(files: dict[str, str]) -> str:
    try:
        Prompts.load(files)
    except PromptError as error:
        return str(error)
    return ""


async def run(report: Report, _: str) -> None:
    """Load each template as a variant, and as a text for customers."""
    for text in _TEMPLATES:
        indented = text.replace("says", "task").replace('"', "'")
        as_text = _CONTRACT + f'texts:\n  refusal: "Sorry: {indented}"\n'
        for place, files in {
            "q/low.j2:2:": {"q/contract.yaml": _CONTRACT, "q/low.j2": f"Task:\n{text}"},
            "q/contract.yaml:": {"q/contract.yaml": as_text, "q/low.j2": "Task: {{ task }}"},
        }.items():
            said, took, most = _read(files)
            through = None
            if not said:
                through = "it was loaded"
            elif not said.startswith((place, place.replace(":2:", ":1:"))) or len(said) < 20:
                through = f"it was refused as {said}"
            elif took > MOST_SECONDS:
                through = f"it took {took * 1000:.0f} ms"
            elif most > MOST_BYTES:
                through = f"it took {most >> 20} MB"
            report.note(f"{text[:60]} in {place}", through=through)


CLASS = ProbeClass("templates", 12, run)

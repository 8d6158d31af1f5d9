"""Invoices: each published export is read, a difference is named, an error says where it is."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.invoices import InvoiceError, read_invoice
from router.reports.invoice import Booked, LineKey, compare

#: 2026-11-20, 0:00 in UTC.
START = 1_795_132_800
OPENAI: dict[str, Any] = {
    "object": "page",
    "has_more": False,
    "data": [
        {
            "object": "bucket",
            "start_time": START,
            "end_time": START + 86_400,
            "results": [
                {
                    "object": "organization.usage.completions.result",
                    "input_tokens": 1_000,
                    "output_tokens": 50,
                    "input_cached_tokens": 800,
                    "num_model_requests": 2,
                    "model": "gpt-small-2026-01-01",
                },
                {
                    "object": "organization.usage.completions.result",
                    "input_tokens": 10,
                    "output_tokens": 5,
                    "num_model_requests": 1,
                    "model": "gpt-small-2026-01-01",
                },
            ],
        }
    ],
}
COSTS: dict[str, Any] = {
    "data": [
        {
            "start_time": START,
            "results": [
                {"amount": {"value": 0.06, "currency": "usd"}, "line_item": "gpt-small, input"},
                {"amount": {"value": 0.01, "currency": "usd"}, "line_item": "gpt-small, output"},
            ],
        }
    ]
}
ANTHROPIC: dict[str, Any] = {
    "data": [
        {
            "starting_at": "2026-11-20T00:00:00Z",
            "ending_at": "2026-11-21T00:00:00Z",
            "results": [
                {
                    "uncached_input_tokens": 100,
                    "cache_creation": {
                        "ephemeral_1h_input_tokens": 20,
                        "ephemeral_5m_input_tokens": 3,
                    },
                    "cache_read_input_tokens": 200,
                    "output_tokens": 50,
                    "model": "claude-small",
                }
            ],
        }
    ],
    "has_more": False,
}
CENTS: dict[str, Any] = {
    "data": [
        {
            "starting_at": "2026-11-20T00:00:00Z",
            "results": [{"amount": "7.5", "currency": "USD", "model": "claude-small"}],
        }
    ]
}
_USAGE_CSV = """\
start_time,end_time,start_time_iso,num_model_requests,model,input_tokens,output_tokens
1795132800,1795219200,2026-11-20T00:00:00+00:00,3,gpt-small,1010,55
"""
_COSTS_CSV = """\
start_time_iso,amount_value,amount_currency,line_item
2026-11-20T00:00:00+00:00,0.0700000,usd,"gpt-small, input"
2026-11-21T00:00:00+00:00,,,
"""
_TOKENS_CSV = """\
usage_date_utc,model_version,usage_input_tokens_no_cache,usage_input_tokens_cache_write_5m,\
usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,usage_output_tokens
2026-11-20,claude-small,100,3,20,200,50
"""
_SMALL = ("2026-11-20", "gpt-small")
_CLAUDE = ("2026-11-20", "claude-small")


def _model(name: str) -> str:
    return name.removesuffix("-2026-01-01")


def read(text: str | Mapping[str, Any], **columns: str) -> Any:
    if not isinstance(text, str):
        text = orjson.dumps(text, option=orjson.OPT_INDENT_2).decode()
    return read_invoice(text, "bill", columns, _model)


@pytest.mark.parametrize(
    ("text", "key", "amounts"),
    [
        pytest.param(OPENAI, _SMALL, {"calls": 3, "input": 1_010, "output": 55}, id="usage"),
        pytest.param(COSTS, _SMALL, {"micros": 70_000}, id="costs"),
        pytest.param(ANTHROPIC, _CLAUDE, {"input": 323, "output": 50}, id="messages"),
        pytest.param(CENTS, _CLAUDE, {"micros": 75_000}, id="cents"),
        pytest.param(
            _USAGE_CSV, _SMALL, {"calls": 3, "input": 1_010, "output": 55}, id="usage CSV"
        ),
        pytest.param(_COSTS_CSV, _SMALL, {"micros": 70_000}, id="costs CSV"),
        pytest.param(_TOKENS_CSV, _CLAUDE, {"input": 323, "output": 50}, id="tokens CSV"),
    ],
)
def test_a_published_export_is_read(text: Any, key: Any, amounts: Mapping[str, int]) -> None:
    invoice = read(text)

    assert invoice.lines[key].amounts == amounts
    assert (invoice.has_ids, invoice.days[0]) == (False, "2026-11-20")


def test_pages_may_follow_each_other_and_columns_have_any_name() -> None:
    first, last = {**OPENAI, "has_more": True}, OPENAI
    pages = b"\n".join(map(orjson.dumps, (first, last))).decode()
    assert read(pages).lines[_SMALL].amounts["calls"] == 6
    assert read(orjson.dumps([first, last]).decode()).lines[_SMALL].amounts["calls"] == 6

    text = 'Date;Name;Cost\n2026-11-20;gpt-small;"$1,000.50"\n'
    invoice = read(text, day="Date", model="Name", dollars="Cost")
    assert invoice.lines[_SMALL].amounts == {"micros": 1_000_500_000}
    calls = read('{"attempt_id": "a", "cost_micros": 3, "input_tokens": 1, "output_tokens": 2}\n')
    assert (calls.has_ids, calls.days, list(calls.lines)) == (True, [], [("a",)])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "bill: it has no lines"),
        ('{"data": [', "bill:1: JSON was expected"),
        ('{"a": 1,\n "b": }', "bill:2: JSON was expected"),
        ('{"data": [1]}', "bill:1: an object, or a page"),
        ({**OPENAI, "has_more": True}, "`has_more`"),
        ("a,b\n1,2\n", "bill:2: these are the columns of no export that is known: a, b"),
        (
            _USAGE_CSV.replace("1010", "lots"),
            "bill:2: input_tokens: a number was expected, not 'lots'",
        ),
        (_USAGE_CSV.replace("2026-11-20T", "20th T"), "bill:2: a day was expected"),
        (_USAGE_CSV + "1,2\n", "bill:3: 7 columns were expected"),
        (
            _COSTS_CSV.replace("usd", "eur"),
            "bill:2: an amount in US dollars was expected, not in eur",
        ),
        ("attempt_id,cost_micros\n,3\n", "bill:2: a value was expected in attempt_id"),
        (f'{{"a": {"[" * 100_000}', "bill:1: JSON was expected: RecursionError"),
    ],
)
def test_an_error_says_where_it_is_and_what_was_expected(text: Any, words: str) -> None:
    with pytest.raises(InvoiceError) as caught:
        read(text)
    assert words in str(caught.value)


def line(**amounts: int | str) -> Booked:
    booked = Booked()
    booked.add({name: Decimal(amount) for name, amount in amounts.items()})
    return booked


@pytest.mark.parametrize(
    ("invoice", "ledger", "status"),
    [
        (line(micros="9.2"), line(calls=2, micros=11), "agrees"),
        (line(micros="9.2"), line(calls=1, micros=11), "differs"),
        (line(micros=11), line(calls=9, micros=10), "differs"),
        (line(input=9), line(calls=9, input=9, output=7, micros=5), "agrees"),
        (line(input=9, output=1), line(input=9, output=2), "differs"),
        (line(micros=1), None, "only the invoice"),
        (None, line(micros=1), "only the ledger"),
        (None, line(calls=3, micros=0), None),
    ],
)
def test_a_line_agrees_differs_or_is_on_one_side_alone(
    invoice: Booked | None, ledger: Booked | None, status: str | None
) -> None:
    key: LineKey = ("a",)
    theirs, ours = ({key: side} if side else {} for side in (invoice, ledger))

    assert [one.status for one in compare(theirs, ours, Decimal(0))] == ([status] if status else [])
    if status == "differs" and invoice and "micros" in invoice.amounts:
        assert [one.status for one in compare(theirs, ours, Decimal(2))] == ["agrees"]


_SIDES = st.dictionaries(
    st.tuples(st.sampled_from("abc")),
    st.builds(line, calls=st.integers(0, 3), input=st.integers(0, 2), micros=st.integers(1, 3)),
)


@given(_SIDES, _SIDES)
def test_nothing_is_left_out_and_differences_are_those_of_the_sums(
    invoice: dict[Any, Booked], ledger: dict[Any, Booked]
) -> None:
    lines = compare(invoice, ledger, Decimal(0))

    assert {one.key for one in lines} == {*invoice, *ledger}
    for one in lines:
        if one.status == "agrees":
            assert one.invoice
            assert one.ledger
            assert one.invoice.amounts["input"] == one.ledger.amounts["input"]
            assert 0 <= one.ledger.amounts["micros"] - one.invoice.amounts["micros"] < 3

"""What reports say of attempts."""

import pytest

from consumers.reports import reply_text
from tests.builders import an_attempt

_THOUGHT = {"output_tokens": 0, "reasoning_tokens": 28}


@pytest.mark.parametrize(
    ("reply", "output", "usage", "told"),
    [
        ("Yes.", {"answer": "Yes."}, {}, '{"answer": "Yes."}'),
        ("No J", None, {}, "No J"),
        ("", {"tool_calls": [{"id": "c"}]}, {}, '{"tool_calls": [{"id": "c"}]}'),
        ("", {"answer": "", "sure": False}, {}, '{"answer": "", "sure": false}'),
        ("", {"answer": ""}, _THOUGHT, "(a thought of 28 tokens, nothing else)"),
        (" ", None, _THOUGHT, "(a thought of 28 tokens, nothing else)"),
        (" ", {"answer": " "}, {}, "(nothing)"),
        (None, None, {}, ""),
    ],
)
def test_a_reply_is_told_in_a_text_and_nothing_is_called_nothing(reply, output, usage, told):
    verdict = output and {"outcome": "rejected", "checks": [], "output": output}

    assert reply_text(an_attempt(reply=reply, verdict=verdict, usage=usage)) == told

"""What a stage's observer counts of calls to models."""

from typing import Any

import pytest

from consumers.telemetry import names
from consumers.telemetry.observer import Observer
from schemas.reasons import Reason
from tests.builders import NOON, a_request, an_attempt

_ACCEPTED: dict[str, Any] = {"outcome": "accepted", "reason": None}
_FAILED: dict[str, Any] = {"outcome": "failed", "reason": Reason.PROVIDER_UNAVAILABLE}


@pytest.mark.parametrize(
    ("former", "attempt", "count"),
    [
        pytest.param(_FAILED, {"model": "other", **_ACCEPTED}, 1, id="the backup after a failure"),
        pytest.param(_FAILED, _ACCEPTED, 0, id="the same model again"),
        pytest.param(_ACCEPTED, {"model": "other", **_ACCEPTED}, 0, id="one more opinion"),
        pytest.param(
            _ACCEPTED, {"model": "other", "step": "verify", **_ACCEPTED}, 0, id="a verifier"
        ),
    ],
)
def test_a_fallback_is_another_model_in_place_of_one_that_failed(
    former: dict[str, Any], attempt: dict[str, Any], count: int
) -> None:
    observer, asked = Observer(), an_attempt(**attempt)

    observer.called(
        asked, [an_attempt(**former)], a_request(), {}, None, read_at=NOON, judged_at=NOON
    )

    counted = observer.tally.count(names.FALLBACKS, asked.tier, asked.model, "provider_unavailable")
    assert counted == count
    assert observer.tally.count(names.FALLBACKS, asked.tier, asked.model, "") == 0

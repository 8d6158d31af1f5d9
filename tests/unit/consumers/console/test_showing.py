"""What the page of a case shows, whatever its dead letter says."""

from typing import Any

import pytest

from consumers.console.showing import CaseView, case_view
from consumers.console.store import Store
from consumers.telemetry.redaction import redact
from tests.builders import NOON, an_attempt, the_policy
from tests.unit.consumers.console.world import a_letter_record, place, take, taken

pytestmark = pytest.mark.anyio


async def _view(store: Store, **fields: Any) -> CaseView:
    await take(store, a_letter_record(0, **fields))
    record = await store.content(place(0))
    assert record is not None
    return case_view(await taken(store, 0), record, the_policy(), NOON, redact)


@pytest.mark.parametrize("request_id", ["a b", "x" * 300, "ü"])
async def test_a_case_whose_id_nobody_of_ours_would_give_is_shown(
    store: Store, request_id: str
) -> None:
    assert "request_id" in str((await _view(store, request_id=request_id)).no_requeue)


async def test_half_of_a_number_is_not_shown_where_a_reply_is_cut(store: Store) -> None:
    said = {"outcome": "accepted", "checks": [], "output": {"answer": "Done."}}
    reply = "x " * 9_995 + "4929183655271904" + " x" * 9_995
    view = await _view(store, attempts=(an_attempt(verdict=said, reply=reply),))

    [attempt] = view.attempts
    assert attempt.reply is not None
    assert "4929" not in attempt.reply.text

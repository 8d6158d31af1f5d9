"""Pages that follow what happens, across a restart of the console."""

from pathlib import Path

import pytest
from playwright.sync_api import Page

from schemas.topics import Topics
from tests.browser.conftest import Served, console_of, env_of, topics_of
from tests.unit.consumers.console.world import a_letter_record

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

_LIMIT_MS = 60_000


def _give_up(served: Served, number: int) -> None:
    """A dead letter of the request `live-NUMBER`."""
    letter = a_letter_record(number, request_id=f"live-{number}")
    served.publish(served.topics.dead_letters, (b"k", letter.value, letter.headers))


def _waits_for(page: Page, selector: str, words: str) -> None:
    page.locator(selector, has_text=words).wait_for(timeout=_LIMIT_MS)


def test_a_page_shows_what_changes_and_outlives_a_restart(
    page: Page, broker: str, tmp_path: Path
) -> None:
    prefix = "live."
    env = env_of(broker, tmp_path, prefix)
    with topics_of(env):
        pass
    with console_of(env) as url:
        served = Served(url, broker, Topics(prefix))
        page.goto(f"{url}/cases")
        page.evaluate("window.isTheSame = true")
        _waits_for(page, "#counts", "0 waiting")
        _give_up(served, 1)
        _waits_for(page, "#counts", "1 waiting")
    _give_up(served, 2)
    with console_of(env, int(url.rpartition(":")[2])):
        _waits_for(page, "#counts", "2 waiting")
        assert page.evaluate("window.isTheSame")

        body = b'{"id": "live-3", "task": "support_answer", "input": "Where is my order?"}'
        served.publish(served.topics.intake, (b"k", body, ()))
        while (reply := page.goto(f"{url}/requests/live-3")) is None or reply.status != 200:
            pass
        page.evaluate("window.isTheSame = true")
        _waits_for(page, "#journey", "open")
        _give_up(served, 3)
        _waits_for(page, "#journey", "with a person")
        assert page.evaluate("window.isTheSame")

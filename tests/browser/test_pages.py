"""Every page in every state: nothing scrolls sideways, and everything has a name.

With `TIERLINE_SCREENSHOTS=build/pages`, a picture of each is kept, wide and narrow, in both themes.
"""

import os
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from playwright.sync_api import Page

from consumers.lab.demo import MESSAGES
from schemas.topics import Topics
from tests.browser.conftest import Served, console_of, env_of, flow_of, topics_of
from tests.builders import an_attempt
from tests.unit.consumers.console.world import a_letter_record

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

_FOLDER = os.environ.get("TIERLINE_SCREENSHOTS")
_LISTS = {
    "queue": "/cases",
    "groups": "/groups",
    "requests": "/requests",
    "dashboard": "/dashboard",
    "bill": "/dashboard/bill",
    "jobs": "/jobs",
    "job-new": "/jobs/new",
    "audit": "/audit",
    "budgets": "/budgets",
    "policy": "/policy",
    "flow": "/flow",
}
_ERRORS = {
    "no-case": "/cases/nowhere",
    "no-request": "/requests/nowhere",
    "no-range": "/dashboard?span=9h",
    "no-number": "/jobs/new?most=many",
}
#: 720 px are what a window of 1,440 px has at 200 %.
_WIDTHS = (2560, 1440, 720, 390, 360)
_LONG = "Donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichen" * 4
_RIGHT_TO_LEFT = "أين طلبي رقم ٩٩١؟ لقد دفعت مرتين وأريد استرداد 30.00 دولار"
_WRONG = """
() => {
  const wrong = [], named = "a[href], button, input:not([type=hidden]), select, textarea, img, svg";
  if (document.querySelectorAll("h1").length !== 1) wrong.push("not one h1");
  for (const element of document.querySelectorAll(named)) {
    if (element.closest("[aria-hidden=true]")) continue;
    const labels = [...(element.labels || [])].map((label) => label.innerText).join("");
    const name = labels || element.getAttribute("aria-label") || element.innerText || element.alt;
    const isDecoration = element.getAttribute("alt") === "";
    if (!isDecoration && !(name || "").trim() && element.checkVisibility()) {
      wrong.push(`no name: ${element.outerHTML.slice(0, 80)}`);
    }
  }
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) wrong.push(`twice: #${id}`);
  return wrong;
}
"""
_MIRRORED = "(is) => { document.documentElement.dir = is ? 'rtl' : 'ltr'; }"
_UNFOLDED = "() => document.querySelectorAll('details').forEach((one) => { one.open = true; })"
_WIDTH = "document.documentElement.scrollWidth"


class _Eye:
    """Looks at pages, and notes what is wrong with them."""

    def __init__(self, page: Page, served: Served) -> None:
        self.page, self.served = page, served
        self.wrong: list[str] = []

    def look(self, state: str, name: str, path: str | None = None) -> None:
        """At a page of a path, or at the one that is open."""
        if path is not None:
            self.page.goto(self.served.url + path)
        if _FOLDER:
            self._shoot(Path(_FOLDER), f"{state}-{name}")
        self.page.evaluate(_UNFOLDED)
        for is_mirrored in (True, False):
            self.page.evaluate(_MIRRORED, is_mirrored)
            for width in _WIDTHS:
                self.page.set_viewport_size({"width": width, "height": 900})
                if (needs := self.page.evaluate(_WIDTH)) > width:
                    self.wrong.append(f"{state} {name}: {needs} px of {width} {is_mirrored=}")
        self.wrong += [f"{state} {name}: {words}" for words in self.page.evaluate(_WRONG)]

    def _shoot(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for width in (1440, 390):
            self.page.set_viewport_size({"width": width, "height": 900})
            for scheme in ("light", "dark"):
                self.page.emulate_media(color_scheme=scheme)
                path = folder / f"{name}-{width}-{scheme}.png"
                self.page.screenshot(path=path, full_page=True, animations="disabled")
        self.page.emulate_media(color_scheme="light")

    def wait(self, path: str, selector: str) -> None:
        """Until a page has something."""
        give_up = time.monotonic() + 60
        while time.monotonic() < give_up:
            reply = self.page.goto(self.served.url + path)
            if reply is not None and reply.ok and self.page.query_selector(selector):
                return
        msg = f"{path} has no {selector}"
        raise TimeoutError(msg)


def test_every_page_fits_every_window_and_names_everything(
    page: Page, broker: str, tmp_path: Path
) -> None:
    prefix = "pages."
    env = env_of(broker, tmp_path, prefix)
    with topics_of(env), console_of(env) as url:
        eye = _Eye(page, Served(url, broker, Topics(prefix)))
        eye.wait("/dashboard", "h1")
        for name, path in _LISTS.items():
            eye.look("empty", name, path)
        for name, path in _ERRORS.items():
            eye.look("error", name, path)
        _publish(eye.served, {"id": "on-its-way", "task": "support_answer", "input": "Hello?"})
        eye.wait("/requests/on-its-way", "[data-live]")
        eye.look("open", "request")
        with flow_of(env):
            _look_at_the_full_ones(eye)
        _look_at_the_long_ones(eye)
    assert not eye.wrong, "\n".join(eye.wrong)


def _look_at_the_full_ones(eye: _Eye) -> None:
    page, messages = eye.page, MESSAGES.read_bytes().splitlines()
    eye.served.publish(eye.served.topics.intake, *((b"", message, ()) for message in messages))
    eye.served.disputes("dispute-1")
    eye.wait("/cases?task=billing_dispute", "[data-row]")
    eye.wait("/requests/demo-001", ".tag.good")
    eye.look("full", "request")
    eye.look("full", "request-with-a-person", "/requests/dispute-1")
    eye.wait("/cases?text=dispute-1", "[data-row]")
    page.click("[data-row] a")
    page.wait_for_selector("#claim")
    eye.look("full", "case")
    page.click("#claim")
    page.wait_for_selector("#decision")
    eye.look("full", "case-claimed")
    page.check("[name=action][value=discard]")
    page.click("#decide")
    page.wait_for_selector(".error")
    eye.look("error", "case")
    page.check("[name=action][value=reject]")
    page.click("#decide")
    page.wait_for_url("**decided=*")
    page.goto(f"{eye.served.url}/jobs/new?action=reject&most=3&per_second=0.2")
    eye.look("full", "job-dry-run")
    page.click("#dry .primary")
    page.wait_for_selector("#progress")
    eye.look("open", "job")
    for name, path in _LISTS.items():
        eye.look("full", name, path)


def _look_at_the_long_ones(eye: _Eye) -> None:
    """What others wrote is long without a blank, from right to left, or a script."""
    served, words = eye.served, f"{_RIGHT_TO_LEFT} <script>alert(1)</script> {_LONG}"
    id_ = "long-" + "x" * 180
    body: dict[str, Any] = {
        "id": id_,
        "input": words,
        "user": _LONG[:200],
        "conversation_id": "talk-" + "y" * 150,
        "context": {"retrieved": words},
    }
    _publish(served, body)
    attempt = an_attempt(model=_LONG[:200], detail=words, reply=words)
    letter = a_letter_record(
        1, orjson.dumps(body), request_id=id_, detail=words, attempts=(attempt, attempt)
    )
    served.publish(served.topics.dead_letters, (b"k", letter.value, letter.headers))
    eye.wait(f"/requests/{id_}", "section a[href*='llm.dead-letters']")
    eye.look("long", "request")
    eye.page.click("section a[href*='llm.dead-letters']")
    eye.page.wait_for_selector("#claim")
    eye.look("long", "case")
    eye.look("long", "queue", f"/cases?text={_LONG}&task={_LONG}&error={_LONG}&state=all")
    for name in ("queue", "groups", "requests", "dashboard"):
        eye.look("long", f"{name}-all", _LISTS[name])


def _publish(served: Served, *bodies: dict[str, Any]) -> None:
    records = [(body["id"].encode(), orjson.dumps(body), ()) for body in bodies]
    served.publish(served.topics.intake, *records)

"""Figures in a browser: plots of the tables beside them, from which numbers lead to requests."""

import time
from collections.abc import Sequence
from typing import Literal

import orjson
import pytest
from playwright.sync_api import Page

from tests.browser.conftest import SHOTS, Served

_WINDOWS: Sequence[tuple[Literal["light", "dark"], int]] = (("light", 1440), ("dark", 390))

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def _publish(served: Served, name: str) -> None:
    body = {"id": name, "task": "classification", "input": f"Where is the parcel {name}?"}
    served.publish(served.topics.intake, (name.encode(), orjson.dumps(body), ()))


def _look(page: Page, served: Served) -> None:
    """Open the dashboard as soon as it has figures of a request that was answered."""
    give_up = time.monotonic() + 30
    while time.monotonic() < give_up:
        page.goto(f"{served.url}/dashboard?span=1h")
        if page.query_selector("#plot-time-to-answer"):
            return
    msg = "no figures"
    raise TimeoutError(msg)


def test_a_number_of_a_plot_leads_to_its_requests(page: Page, served: Served) -> None:
    wrong: list[str] = []
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    _publish(served, "figures-1")
    for scheme, width in _WINDOWS:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        _look(page, served)
        page.wait_for_selector(".plot canvas")
        assert page.locator(".plot canvas").count() == page.locator(".plot").count() >= 4
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        SHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SHOTS / f"figures-{scheme}-{width}.png", full_page=True)

    plot = page.locator(".plot").first
    box = plot.locator(".u-over").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] - 4, box["y"] + box["height"] / 2)
    page.wait_for_function("document.querySelector('.u-legend .u-value').textContent.trim()")
    page.mouse.down()
    page.mouse.up()
    chosen = plot.locator("tr.chosen")
    assert chosen.count() == 1
    plot.locator("tbody a").last.click()
    page.wait_for_url("**/requests?*outcome=ended*")
    # The newest come first, and other tests have had requests of their own.
    page.wait_for_selector("td a[href^='/requests/']")
    assert wrong == []


def test_figures_can_be_read_without_javascript(page: Page, served: Served) -> None:
    _publish(served, "figures-2")
    _look(page, served)
    browser = page.context.browser
    assert browser is not None
    context = browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    _look(plain, served)
    assert plain.is_visible(".plot table")
    assert not plain.is_visible(".plot .drawing")
    plain.fill("[name=from]", "2026-01-01T00:00")
    plain.click("main .filters button")
    plain.wait_for_url("**from=2026-01-01T00%3A00*")
    plain.wait_for_selector(".plot table")
    plain.click("text=Why did the bill change?")
    plain.click("text=7d")
    plain.wait_for_selector("text=Where it changed most")
    plain.screenshot(path=SHOTS / "bill.png", full_page=True)
    context.close()

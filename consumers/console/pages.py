"""Pages: templates in which everything is escaped, and redirects.

All pages and forms work without JavaScript.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from consumers.amounts import cell_text
from consumers.console.auth import Role, Visitor
from consumers.console.inputs import FILTERS
from consumers.console.showing import ago, dollars
from consumers.telemetry.redaction import redact
from consumers.texts import escaped, plain

__all__ = ["Pages", "filters_in", "redirect", "templates"]


def templates(clock: Callable[[], datetime]) -> Environment:
    """The templates. All texts in them are escaped, and invisible characters are marked."""
    environment = Environment(
        loader=PackageLoader("consumers.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    environment.filters["cell"] = cell_text
    environment.filters["escaped"] = escaped
    environment.filters["dollars"] = dollars
    environment.filters["redact"] = redact
    environment.filters["segment"] = lambda text: quote(text, safe="")
    environment.filters["ago"] = lambda then: ago(then, clock())
    environment.filters["iso"] = lambda then: then.isoformat(timespec="seconds")
    environment.filters["utc"] = lambda then: f"{then.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    environment.globals["Role"] = Role
    return environment


def _visible(value: Any) -> Any:
    """A text with escapes in place of direction marks, joiners and control characters."""
    is_ours = not isinstance(value, str) or isinstance(value, Markup)
    return value if is_ours or (value.isascii() and value.isprintable()) else plain(value)


class Pages:
    """Renders pages."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._env = templates(clock)

    def page(
        self, name: str, visitor: Visitor | None, status: int = 200, **shown: Any
    ) -> HTMLResponse:
        text = self._env.get_template(name).render(visitor=visitor, **shown)
        return HTMLResponse(text, status)


def filters_in(request: Request) -> dict[str, str]:
    """The filters of the queue in a URL, which are kept from page to page."""
    return {name: text for name, text in request.query_params.items() if name in FILTERS}


def redirect(path: str, query: Mapping[str, str] | None = None) -> Response:
    return RedirectResponse(path if query is None else f"{path}?{urlencode(query)}", 303)

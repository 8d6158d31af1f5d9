"""Pages: templates in which everything is escaped, and where a page leads to.

Everything that reads works without JavaScript; so do the forms.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from consumers.console.auth import Role, Visitor
from consumers.console.inputs import FILTERS
from consumers.console.showing import ago, dollars
from consumers.telemetry.redaction import redact
from consumers.texts import escaped, plain

__all__ = ["Pages", "filters_in", "redirect", "templates"]


def templates(clock: Callable[[], datetime]) -> Environment:
    """The pages' templates. Everything they show is escaped, and what cannot be seen is marked."""
    made = Environment(
        loader=PackageLoader("consumers.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_seen,
    )
    made.filters["escaped"] = escaped
    made.filters["dollars"] = dollars
    made.filters["redact"] = redact
    made.filters["ago"] = lambda then: ago(then, clock())
    made.filters["iso"] = lambda then: then.isoformat(timespec="seconds")
    made.globals["Role"] = Role
    return made


def _seen(value: Any) -> Any:
    """A text as it will be published: directions, joiners and controls stand in it as escapes."""
    is_ours = not isinstance(value, str) or isinstance(value, Markup)
    return value if is_ours or (value.isascii() and value.isprintable()) else plain(value)


class Pages:
    """Pages by their templates."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._env = templates(clock)

    def page(
        self, name: str, visitor: Visitor | None, status: int = 200, **shown: Any
    ) -> HTMLResponse:
        text = self._env.get_template(name).render(visitor=visitor, **shown)
        return HTMLResponse(text, status)


def filters_in(request: Request) -> dict[str, str]:
    """The filters of a queue in a URL, which go with a person from page to page."""
    return {name: text for name, text in request.query_params.items() if name in FILTERS}


def redirect(path: str, query: Mapping[str, str] | None = None) -> Response:
    """On to a page of ours."""
    return RedirectResponse(path if query is None else f"{path}?{urlencode(query)}", 303)

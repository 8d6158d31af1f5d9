"""The console's routes: pages, and the same under `/api` for programs."""

import functools
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from consumers.console.auth import Role, may

__all__ = ["Routes"]

Act = TypeVar("Act", bound=Callable[..., Awaitable[Any]])


class Routes:
    """The routes of pages and of the API; `both` adds one function to both."""

    def __init__(self) -> None:
        viewer = [Depends(may(Role.VIEWER))]
        self.pages = APIRouter(
            default_response_class=HTMLResponse, include_in_schema=False, dependencies=viewer
        )
        self.api = APIRouter(prefix="/api", dependencies=viewer)

    def both(
        self,
        route: str,
        role: Role,
        summary: str,
        page: Callable[[Request, Any], Any] | None = None,
        as_json: Callable[[Any], Any] | None = None,
        name: str | None = None,
        but: Sequence[Any] = (),
    ) -> Callable[[Act], Act]:
        """A decorator for an act: a function of the request and of parameters that FastAPI reads.

        `route` is a method and a path. `page` makes the reply to a browser from the act's value,
        `as_json` the value for programs; without them the act itself returns the reply. `but` are
        further conditions of the route.
        """
        method, path = route.split()
        routed: dict[str, Any] = {"methods": [method], "dependencies": [Depends(may(role)), *but]}

        def added(act: Act) -> Act:
            endpoint = _answering(act, page) if page else act
            self.pages.add_api_route(path, endpoint, response_model=None, **routed)
            if as_json is None:
                self.api.add_api_route(path, act, summary=summary, **routed)
            else:
                value = _answering(act, lambda _, value: as_json(value))
                model = inspect.signature(as_json).return_annotation
                documented = {"response_model": model, "summary": summary, "name": name}
                self.api.add_api_route(path, value, **documented, **routed)
            return act

        return added


def _answering(
    act: Callable[..., Awaitable[Any]], reply: Callable[[Request, Any], Any]
) -> Callable[..., Awaitable[Any]]:
    """An endpoint with the act's parameters, which replies with its value."""

    @functools.wraps(act)
    async def endpoint(request: Request, **parameters: Any) -> Any:
        answer = reply(request, await act(request=request, **parameters))
        return await answer if inspect.isawaitable(answer) else answer

    return endpoint

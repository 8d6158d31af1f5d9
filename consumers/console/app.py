"""The console's application: sign-in, pages, and the rules that hold for all of them."""

from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, FastAPI, Form, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as AnyHTTPError

from consumers.console.api import api
from consumers.console.bulk import Bulk
from consumers.console.dashboard import Figures, dashboard
from consumers.console.deciding import Desk, ImpossibleError, NotSentError
from consumers.console.errors import CaseError, JobRunningError, StoreAwayError
from consumers.console.gatekeeping import NeedsSignInError, is_same_origin, may, only_ones_own
from consumers.console.oidc import oidc_routes
from consumers.console.pages import Pages, problem_status
from consumers.console.security import Guard, Role, SecureHeaders, Visitor, is_loopback
from consumers.console.work_pages import work_pages
from consumers.settings import OidcSettings

__all__ = ["console_app"]


def console_app(
    desk: Desk,
    guard: Guard,
    bulk: Bulk,
    figures: Figures,
    oidc: OidcSettings | None = None,
) -> FastAPI:
    """The console as an ASGI application."""
    app = FastAPI(
        title="Tierline console",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        version="1",
        dependencies=[Depends(only_ones_own(desk))],
    )
    pages = Pages(desk)
    app.include_router(pages.router)
    app.include_router(work_pages(desk, bulk, pages))
    app.include_router(dashboard(desk, figures, pages))
    app.include_router(api(desk, bulk, figures))
    _add_sign_in(app, desk, guard, pages)
    if oidc is not None:
        app.include_router(oidc_routes(oidc, desk, guard, pages))
    folder = files("consumers.console") / "static"
    app.mount("/static", StaticFiles(directory=str(folder)), name="static")
    _add_errors(app, pages)

    @app.middleware("http")
    async def enter(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        request.state.visitor = None
        if "\0" in request.scope["path"]:  # no database has a place for it
            return PlainTextResponse("not found", 404)
        if request.url.path.startswith("/static/"):
            reply = await call_next(request)
            reply.headers["cache-control"] = "max-age=3600"
            return reply
        if guard.users is None and not is_loopback(request.url.hostname or ""):
            # Another site's name that points at this machine must not pass for it.
            return pages.page("message.html", None, 421, title="Not here", words="wrong host name")
        is_api = request.url.path.startswith("/api/")
        basic = request.headers.get("authorization") if is_api else None
        try:
            if basic is not None:
                visitor = await guard.named(basic)
                request.state.is_by_name = visitor is not None
            else:
                visitor = await guard.visitor(request.cookies)
        except StoreAwayError as error:  # before any handler of errors
            if is_api:
                return JSONResponse({"error": str(error)}, 503)
            return pages.page("message.html", None, 503, title="503", words=str(error))
        request.state.visitor = visitor
        reply = await call_next(request)
        if visitor is not None and visitor.cookie is not None:
            reply.set_cookie(guard.cookie, visitor.cookie, **guard.cookie_rules)
        return reply

    app.add_middleware(SecureHeaders)
    return app


def _add_sign_in(app: FastAPI, desk: Desk, guard: Guard, pages: Pages) -> None:
    def sign_in_page(then: str, error: str | None = None, status: int = 200) -> Response:
        shown = {"error": error, "then": then, "has_oidc": guard.has_oidc}
        return pages.page("sign_in.html", None, status, has_users=bool(guard.users), **shown)

    async def show(request: Request) -> Response:
        if request.state.visitor is not None:
            return RedirectResponse("/", 303)
        return sign_in_page(_local(request, "then"))

    async def sign_in(
        request: Request,
        name: Annotated[str, Form(max_length=200)],
        password: Annotated[str, Form(max_length=1000)],
        then: Annotated[str, Form(max_length=2000)] = "/",
    ) -> Response:
        if not is_same_origin(request):
            raise HTTPException(403, "this was sent from another site")
        visitor = await guard.sign_in(name, password)
        if visitor is None or visitor.cookie is None:
            words = "that name and password do not fit"
            return sign_in_page(_path(then), words, 401)
        await guard.sign_out(request.cookies)  # what the browser had before is of no use now
        await desk.note(visitor.who, "sign_in")
        # A page of our own that goes on: a redirect from another site's link would not carry
        # a strict cookie, this one does.
        reply = pages.page("go_on.html", None, then=_path(then))
        reply.set_cookie(guard.cookie, visitor.cookie, **guard.cookie_rules)
        return reply

    async def sign_out(request: Request) -> Response:
        visitor: Visitor = request.state.visitor
        await guard.sign_out(request.cookies)
        await desk.note(visitor.who, "sign_out")
        reply = RedirectResponse("/sign-in", 303)
        reply.delete_cookie(guard.cookie, **guard.cookie_rules)
        return reply

    router = APIRouter(default_response_class=HTMLResponse, include_in_schema=False)
    router.add_api_route("/sign-in", show)
    router.add_api_route("/sign-in", sign_in, methods=["POST"])
    needs_token = Depends(may(Role.VIEWER))
    router.add_api_route("/sign-out", sign_out, methods=["POST"], dependencies=[needs_token])
    app.include_router(router)


def _add_errors(app: FastAPI, pages: Pages) -> None:
    """Errors as pages, or as JSON for those who ask for it; never with what was sent."""

    def said(request: Request, status: int, words: str) -> Response:
        if request.url.path.startswith("/api/"):
            return JSONResponse({"error": words}, status)
        visitor = getattr(request.state, "visitor", None)
        return pages.page("message.html", visitor, status, title=str(status), words=words)

    async def unknown_visitor(request: Request, _: Exception) -> Response:
        if request.method == "GET" and not request.url.path.startswith("/api/"):
            path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"/sign-in?{urlencode({'then': path})}", 303)
        return said(request, 401, "sign in first")

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, AnyHTTPError)  # noqa: S101  registered so
        return said(request, error.status_code, str(error.detail))

    async def refused(request: Request, error: Exception) -> Response:
        return said(request, problem_status(error), str(error))

    async def impossible(request: Request, error: Exception) -> Response:
        problems = error.problems if isinstance(error, ImpossibleError) else []
        if problems and request.url.path.startswith("/api/"):
            told = [{"at": where, "words": words} for where, words in problems]
            return JSONResponse({"error": str(error), "problems": told}, 422)
        return said(request, 422, str(error))

    async def unexpected(request: Request, _: Exception) -> Response:
        return said(request, 500, "a fault of ours; the log of the console says more")

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101  registered so
        where = ", ".join(str(one["loc"][-1]) for one in error.errors())
        return said(request, 422, f"these fields are missing or wrong: {where}")

    app.add_exception_handler(StoreAwayError, refused)
    app.add_exception_handler(NeedsSignInError, unknown_visitor)
    app.add_exception_handler(AnyHTTPError, http)
    app.add_exception_handler(CaseError, refused)
    app.add_exception_handler(NotSentError, refused)
    app.add_exception_handler(ImpossibleError, impossible)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(JobRunningError, refused)
    app.add_exception_handler(Exception, unexpected)


def _local(request: Request, name: str) -> str:
    return _path(request.query_params.get(name, "/"))


def _path(then: str) -> str:
    """A path of our own, whatever was asked for."""
    is_ours = then.startswith("/") and not then.startswith(("//", "/\\"))
    return then if is_ours else "/"

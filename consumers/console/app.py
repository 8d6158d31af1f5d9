"""The console's application: sign-in, pages, and the rules that hold for all of them."""

from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Depends, FastAPI, Form, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as AnyHTTPError

from consumers.console.api import api
from consumers.console.attempts import Attempts
from consumers.console.auth import (
    Authenticator,
    NeedsSignInError,
    Role,
    Visitor,
    may,
    only_ones_own,
)
from consumers.console.bulk import Bulk
from consumers.console.dashboard import Figures, dashboard
from consumers.console.entrance import Entrance, Say, client_of, too_many
from consumers.console.errors import CaseError, JobRunningError, StoreAwayError
from consumers.console.oidc import oidc_routes
from consumers.console.pages import Pages, problem_status
from consumers.console.review_service import ImpossibleError, NotSentError, ReviewService
from consumers.console.security import SecureHeaders, is_same_origin, own_path
from consumers.console.work_pages import work_pages
from consumers.runtime.connection import KafkaUnreachableError
from consumers.settings import OidcSettings

__all__ = ["console_app"]


class _Console(FastAPI):
    """The application with our headers outside of everything, its own last errors included."""

    def build_middleware_stack(self) -> Any:
        """As it is, in our headers."""
        return SecureHeaders(super().build_middleware_stack())


def console_app(
    reviews: ReviewService,
    authenticator: Authenticator,
    bulk: Bulk,
    figures: Figures,
    oidc: OidcSettings | None = None,
) -> FastAPI:
    """The console as an ASGI application."""
    app = _Console(
        title="Tierline console",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        version="1",
        # Such a redirect would go to whatever host the request names.
        redirect_slashes=False,
        dependencies=[Depends(only_ones_own(reviews))],
    )
    pages = Pages(reviews)
    attempts = Attempts(reviews.clock)

    async def note_failure(address: str, note: str) -> None:
        """Somebody has failed to sign in. Who goes on trying is not heard: no flood of lines."""
        more = "; not heard for a minute" if attempts.is_last(address) else ""
        await reviews.note("nobody", "sign_in_failed", note=f"{note} from {address}{more}"[:500])

    def say(request: Request, status: int, words: str) -> Response:
        """A page, or JSON for those who ask for it; never with what was sent."""
        if request.url.path.startswith("/api/"):
            return JSONResponse({"error": words}, status)
        visitor = getattr(request.state, "visitor", None)
        return pages.page("message.html", visitor, status, title=str(status), words=words)

    def sign_in_first(request: Request) -> Response:
        path = request.scope["path"]
        if request.method != "GET" or path.startswith("/api/"):
            return say(request, 401, "sign in first")
        asked = quote(path) + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/sign-in?{urlencode({'then': own_path(asked)})}", 303)

    app.include_router(pages.router)
    app.include_router(work_pages(reviews, bulk, pages))
    app.include_router(dashboard(reviews, figures, pages))
    app.include_router(api(reviews, bulk, figures))
    app.include_router(_sign_in(reviews, authenticator, pages, attempts, note_failure, say))
    if oidc is not None:
        app.include_router(oidc_routes(oidc, reviews, authenticator, pages, note_failure))
    folder = files("consumers.console") / "static"
    app.mount("/static", StaticFiles(directory=str(folder)), name="static")
    _add_errors(app, say, sign_in_first)
    app.add_middleware(
        Entrance,
        authenticator=authenticator,
        attempts=attempts,
        note_failure=note_failure,
        say=say,
        sign_in_first=sign_in_first,
    )
    return app


def _sign_in(
    reviews: ReviewService,
    authenticator: Authenticator,
    pages: Pages,
    attempts: Attempts,
    note_failure: Callable[[str, str], Awaitable[None]],
    say: Say,
) -> APIRouter:
    def page(then: str, error: str | None = None, status: int = 200) -> Response:
        has = {"has_oidc": authenticator.has_oidc, "has_token": authenticator.has_token}
        return pages.page("sign_in.html", None, status, error=error, then=then, **has)

    async def show(request: Request) -> Response:
        if request.state.visitor is not None:
            return RedirectResponse("/", 303)
        return page(own_path(request.query_params.get("then", "/")))

    async def sign_in(
        request: Request,
        token: Annotated[str, Form(max_length=1000)],
        then: Annotated[str, Form(max_length=2000)] = "/",
    ) -> Response:
        if not is_same_origin(request):
            raise HTTPException(403, "this was sent from another site")
        address = client_of(request)
        if not attempts.begin(address):
            return too_many(say, request)
        visitor = await authenticator.sign_in(token)
        if visitor is None or visitor.cookie is None:
            await note_failure(address, "the token")
            return page(own_path(then), "that is not the token", 401)
        attempts.succeeded(address)
        await authenticator.sign_out(
            request.cookies
        )  # what the browser had before is of no use now
        await reviews.note(visitor.who, "sign_in", note=f"from {address}")
        # A page of our own that goes on: a redirect from another site's link would not carry
        # a strict cookie, this one does.
        reply = pages.page("go_on.html", None, then=own_path(then))
        reply.set_cookie(authenticator.cookie, visitor.cookie, **authenticator.cookie_rules)
        return reply

    async def sign_out(request: Request) -> Response:
        visitor: Visitor = request.state.visitor
        await authenticator.sign_out(request.cookies)
        await reviews.note(visitor.who, "sign_out")
        reply = RedirectResponse("/sign-in", 303)
        reply.delete_cookie(authenticator.cookie, **authenticator.cookie_rules)
        return reply

    router = APIRouter(default_response_class=HTMLResponse, include_in_schema=False)
    router.add_api_route("/sign-in", show)
    router.add_api_route("/sign-in", sign_in, methods=["POST"])
    needs_token = Depends(may(Role.VIEWER))
    router.add_api_route("/sign-out", sign_out, methods=["POST"], dependencies=[needs_token])
    return router


def _add_errors(app: FastAPI, said: Say, sign_in_first: Callable[[Request], Response]) -> None:
    """Errors as pages, or as JSON for those who ask for it; never with what was sent."""

    async def unknown_visitor(request: Request, _: Exception) -> Response:
        return sign_in_first(request)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, AnyHTTPError)  # noqa: S101  registered so
        reply = said(request, error.status_code, str(error.detail))
        reply.headers.update(error.headers or {})
        return reply

    async def refused(request: Request, error: Exception) -> Response:
        return said(request, problem_status(error), str(error))

    async def impossible(request: Request, error: Exception) -> Response:
        problems = error.problems if isinstance(error, ImpossibleError) else []
        if problems and request.url.path.startswith("/api/"):
            told = [{"at": where, "words": words} for where, words in problems]
            return JSONResponse({"error": str(error), "problems": told}, 422)
        return said(request, 422, str(error))

    async def unfit(request: Request, _: Exception) -> Response:
        return said(request, 400, "there is a character or a number in it that has no place here")

    async def unexpected(request: Request, _: Exception) -> Response:
        return said(request, 500, "a fault of ours; the log of the console says more")

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101  registered so
        where = ", ".join(str(one["loc"][-1]) for one in error.errors())
        return said(request, 422, f"these fields are missing or wrong: {where}")

    app.add_exception_handler(StoreAwayError, refused)
    app.add_exception_handler(KafkaUnreachableError, refused)
    app.add_exception_handler(NeedsSignInError, unknown_visitor)
    app.add_exception_handler(AnyHTTPError, http)
    app.add_exception_handler(CaseError, refused)
    app.add_exception_handler(NotSentError, refused)
    app.add_exception_handler(ImpossibleError, impossible)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(JobRunningError, refused)
    app.add_exception_handler(UnicodeError, unfit)
    app.add_exception_handler(OverflowError, unfit)
    app.add_exception_handler(Exception, unexpected)

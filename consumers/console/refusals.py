"""What is refused, and what fails: as a page, or as JSON under `/api`; never with what was sent."""

from typing import Any
from urllib.parse import quote, urlencode

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException as AnyHTTPError

from consumers.console.auth import NeedsSignInError
from consumers.console.errors import (
    CaseError,
    ImpossibleError,
    JobRunningError,
    NotSentError,
    StaleError,
    StoreAwayError,
    UnknownCaseError,
)
from consumers.console.pages import Pages
from consumers.console.security import own_path
from consumers.runtime.connection import KafkaUnreachableError

__all__ = ["Refusals", "status_of"]

#: The HTTP status of a refusal; a kind stands before those it belongs to.
_STATUS: dict[type[Exception], int] = {
    UnknownCaseError: 404,
    StaleError: 412,
    CaseError: 409,
    JobRunningError: 409,
    ImpossibleError: 422,
    KafkaUnreachableError: 503,
    NotSentError: 503,
    StoreAwayError: 503,
}


def status_of(error: Exception) -> int:
    """The HTTP status of an act that is refused."""
    return next(status for kind, status in _STATUS.items() if isinstance(error, kind))


class Refusals:
    """Answers to what is refused."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def say(self, request: Request, status: int, words: str) -> Response:
        """A page with a status and words, or JSON."""
        if request.url.path.startswith("/api/"):
            return JSONResponse({"error": words}, status)
        visitor = getattr(request.state, "visitor", None)
        return self._pages.page("message.html", visitor, status, title=str(status), words=words)

    def sign_in_first(self, request: Request) -> Response:
        """Where somebody has to go whom nobody knows."""
        path = request.scope["path"]
        if request.method != "GET" or path.startswith("/api/"):
            return self.say(request, 401, "sign in first")
        asked = quote(path) + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/sign-in?{urlencode({'then': own_path(asked)})}", 303)

    def add_to(self, app: FastAPI) -> None:
        """Answer whatever the application's routes raise."""

        async def unknown_visitor(request: Request, _: Exception) -> Response:
            return self.sign_in_first(request)

        async def http(request: Request, error: Any) -> Response:
            reply = self.say(request, error.status_code, str(error.detail))
            reply.headers.update(error.headers or {})
            return reply

        async def refused(request: Request, error: Any) -> Response:
            problems = [
                {"at": where, "words": words} for where, words in getattr(error, "problems", ())
            ]
            if problems and request.url.path.startswith("/api/"):
                return JSONResponse({"error": str(error), "problems": problems}, 422)
            return self.say(request, status_of(error), str(error))

        async def unfit(request: Request, _: Exception) -> Response:
            words = "there is a character or a number in it that has no place here"
            return self.say(request, 400, words)

        async def invalid(request: Request, error: Any) -> Response:
            where = ", ".join(str(problem["loc"][-1]) for problem in error.errors())
            return self.say(request, 422, f"these fields are missing or wrong: {where}")

        async def unexpected(request: Request, _: Exception) -> Response:
            return self.say(request, 500, "a fault of ours; the log of the console says more")

        for kind in _STATUS:
            app.add_exception_handler(kind, refused)
        app.add_exception_handler(NeedsSignInError, unknown_visitor)
        app.add_exception_handler(AnyHTTPError, http)
        app.add_exception_handler(RequestValidationError, invalid)
        app.add_exception_handler(UnicodeError, unfit)
        app.add_exception_handler(OverflowError, unfit)
        app.add_exception_handler(Exception, unexpected)

"""Replies to refused and failed requests: a page, or JSON under `/api`; they quote no input."""

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
    UnknownCaseError,
    UnknownRequestError,
)
from consumers.console.pages import Pages
from consumers.console.security import own_path
from consumers.readmodel.database import StoreAwayError
from consumers.readmodel.following import IncompleteError, OtherTopicsError
from consumers.runtime.connection import KafkaUnreachableError

__all__ = ["Refusals", "status_of"]

#: The HTTP status of each error; subclasses come before their base class.
_STATUS: dict[type[Exception], int] = {
    UnknownCaseError: 404,
    UnknownRequestError: 404,
    StaleError: 412,
    CaseError: 409,
    JobRunningError: 409,
    ImpossibleError: 422,
    KafkaUnreachableError: 503,
    NotSentError: 503,
    StoreAwayError: 503,
    IncompleteError: 503,
    OtherTopicsError: 503,
}


#: The headings of pages that say why something was refused.
_HEADINGS = {
    401: "Sign in first",
    403: "Not allowed",
    404: "Not found",
    500: "Something failed here",
    503: "Not available now",
}


def status_of(error: Exception) -> int:
    return next(status for kind, status in _STATUS.items() if isinstance(error, kind))


class Refusals:
    """Makes the replies to refused requests."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def say(self, request: Request, status: int, words: str) -> Response:
        """A page, or JSON under `/api`, with a status and words."""
        if request.url.path.startswith("/api/"):
            return JSONResponse({"error": words}, status)
        visitor = getattr(request.state, "visitor", None)
        title = _HEADINGS.get(status, "That was not done")
        return self._pages.page("message.html", visitor, status, title=title, words=words)

    def sign_in_first(self, request: Request) -> Response:
        """The reply to a user who has to sign in: a redirect, or status 401."""
        path = request.scope["path"]
        if request.method != "GET" or path.startswith("/api/"):
            return self.say(request, 401, "sign in first")
        target = quote(path) + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/sign-in?{urlencode({'then': own_path(target)})}", 303)

    def add_to(self, app: FastAPI) -> None:
        """Register the replies to whatever the application's routes raise."""
        unfit = (UnicodeError, OverflowError)
        kinds = (NeedsSignInError, AnyHTTPError, RequestValidationError, *unfit, Exception)
        for kind in (*_STATUS, *kinds):
            app.add_exception_handler(kind, self._answer)

    async def _answer(self, request: Request, error: Exception) -> Response:
        match error:
            case NeedsSignInError():
                return self.sign_in_first(request)
            case AnyHTTPError():
                reply = self.say(request, error.status_code, str(error.detail))
                reply.headers.update(error.headers or {})
                return reply
            case RequestValidationError():
                where = ", ".join(str(problem["loc"][-1]) for problem in error.errors())
                return self.say(request, 422, f"these fields are missing or wrong: {where}")
            case ImpossibleError() if error.problems and request.url.path.startswith("/api/"):
                problems = [{"at": where, "words": words} for where, words in error.problems]
                return JSONResponse({"error": str(error), "problems": problems}, 422)
            case UnicodeError() | OverflowError():
                words = "the request contains a character or a number that cannot be used"
                return self.say(request, 400, words)
            case _ if isinstance(error, tuple(_STATUS)):
                return self.say(request, status_of(error), str(error))
            case _:
                return self.say(request, 500, "the console failed; its log says why")

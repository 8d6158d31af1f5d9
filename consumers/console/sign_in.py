"""Sign-in with the console's token, and the last step of every sign-in."""

from typing import Annotated

from fastapi import APIRouter, Depends, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from consumers.console.attempts import Attempts, too_many_attempts
from consumers.console.auth import Authenticator, Role, Visitor, may
from consumers.console.entrance import client_of
from consumers.console.pages import Pages
from consumers.console.review_service import ReviewService
from consumers.console.security import is_same_origin, own_path

__all__ = ["SignIn"]


class SignIn:
    """The pages to sign in and out; failures and successes are in the audit trail."""

    def __init__(
        self,
        reviews: ReviewService,
        authenticator: Authenticator,
        pages: Pages,
        attempts: Attempts,
    ) -> None:
        self._reviews = reviews
        self._authenticator = authenticator
        self._pages = pages
        self._attempts = attempts
        self.router = APIRouter(default_response_class=HTMLResponse, include_in_schema=False)
        add = self.router.add_api_route
        add("/sign-in", self._show)
        add("/sign-in", self._sign_in, methods=["POST"])
        needs_token = Depends(may(Role.VIEWER))
        add("/sign-out", self._sign_out, methods=["POST"], dependencies=[needs_token])

    async def note_failure(self, address: str, note: str) -> None:
        """Note a failed sign-in. Attempts limits how often, so the trail is not flooded."""
        more = "; refused for a minute" if self._attempts.is_last(address) else ""
        words = f"{note} from {address}{more}"[:500]
        await self._reviews.note("nobody", "sign_in_failed", note=words)

    async def welcome(self, request: Request, visitor: Visitor, note: str, then: str) -> Response:
        """Note a new session, set its cookie, and continue."""
        # End the browser's former session.
        await self._authenticator.sign_out(request.cookies)
        await self._reviews.note(visitor.who, "sign_in", note=note)
        # The reply is a page of ours that redirects: a redirect that began on another site would
        # not send a strict cookie, but this one does.
        reply = self._pages.page("go_on.html", None, then=own_path(then))
        rules = self._authenticator.cookie_rules
        reply.set_cookie(self._authenticator.cookie, visitor.cookie or "", **rules)
        return reply

    async def _show(self, request: Request) -> Response:
        if request.state.visitor is not None:
            return RedirectResponse("/", 303)
        return self._form(request.query_params.get("then", "/"))

    def _form(self, then: str, error: str | None = None, status: int = 200) -> Response:
        return self._pages.page(
            "sign_in.html",
            None,
            status,
            error=error,
            then=own_path(then),
            has_oidc=self._authenticator.has_oidc,
            has_token=self._authenticator.has_token,
        )

    async def _sign_in(
        self,
        request: Request,
        token: Annotated[str, Form(max_length=1000)],
        then: Annotated[str, Form(max_length=2000)] = "/",
    ) -> Response:
        if not is_same_origin(request):
            raise HTTPException(403, "this was sent from another site")
        address = client_of(request)
        if not self._attempts.begin(address):
            raise too_many_attempts()
        visitor = await self._authenticator.sign_in(token)
        if visitor is None:
            await self.note_failure(address, "the token")
            return self._form(then, "the token is wrong", 401)
        self._attempts.succeeded(address)
        return await self.welcome(request, visitor, f"from {address}", then)

    async def _sign_out(self, request: Request) -> Response:
        visitor: Visitor = request.state.visitor
        await self._authenticator.sign_out(request.cookies)
        await self._reviews.note(visitor.who, "sign_out")
        reply = RedirectResponse("/sign-in", 303)
        reply.delete_cookie(self._authenticator.cookie, **self._authenticator.cookie_rules)
        return reply

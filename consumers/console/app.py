"""The console's application: joins routes, sign-in, refusals and middleware."""

from importlib.resources import files
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.staticfiles import StaticFiles

from consumers.console.attempts import Attempts
from consumers.console.auth import Authenticator, only_ones_own
from consumers.console.budget_routes import add_budget_routes
from consumers.console.bulk import Bulk
from consumers.console.case_routes import add_case_routes
from consumers.console.dashboard import Figures, add_dashboard
from consumers.console.entrance import Entrance
from consumers.console.flow_routes import add_flow_routes
from consumers.console.job_routes import add_job_routes
from consumers.console.live import Live, add_live
from consumers.console.oidc import oidc_routes
from consumers.console.pages import Pages
from consumers.console.policy_routes import add_policy_routes
from consumers.console.queue_routes import add_queue_routes
from consumers.console.refusals import Refusals
from consumers.console.request_routes import add_request_routes
from consumers.console.review_service import ReviewService
from consumers.console.routes import Routes
from consumers.console.security import SecureHeaders
from consumers.console.sign_in import SignIn
from consumers.runtime.processes import Processes
from consumers.sign_in_settings import OidcSettings

__all__ = ["console_app"]


class _Console(FastAPI):
    """The application with our headers on every reply, including its own internal errors."""

    def build_middleware_stack(self) -> Any:
        return SecureHeaders(super().build_middleware_stack())


def console_app(
    reviews: ReviewService,
    authenticator: Authenticator,
    bulk: Bulk,
    figures: Figures,
    oidc: OidcSettings | None = None,
    processes: Processes | None = None,
) -> FastAPI:
    """The console as an ASGI application; `processes` is what the processes of the flow report."""
    app = _Console(
        title="Tierline console",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        version="1",
        # Such a redirect would go to any host that the request names.
        redirect_slashes=False,
        dependencies=[Depends(only_ones_own(reviews))],
    )
    pages, attempts = Pages(reviews.clock), Attempts(reviews.clock)
    refusals, routes = Refusals(pages), Routes()
    sign_in = SignIn(reviews, authenticator, pages, attempts)
    add_queue_routes(routes, reviews, pages)
    add_case_routes(routes, reviews, figures.model, pages)
    add_job_routes(routes, reviews, bulk, pages)
    add_request_routes(routes, reviews, figures.model, pages)
    add_dashboard(routes, reviews, figures, pages)
    add_budget_routes(routes, figures.model.clients, pages, reviews.clock)
    add_live(routes, Live(authenticator, reviews, figures.model))
    add_policy_routes(routes, reviews, figures.model, pages)
    add_flow_routes(routes, reviews, processes or Processes(), pages)
    app.include_router(routes.pages)
    app.include_router(routes.api)
    app.include_router(sign_in.router)
    if oidc is not None:
        app.include_router(oidc_routes(oidc, authenticator, pages, sign_in, reviews.clock))
    folder = files("consumers.console") / "static"
    app.mount("/static", StaticFiles(directory=str(folder)), name="static")
    refusals.add_to(app)
    app.add_middleware(
        Entrance,
        authenticator=authenticator,
        attempts=attempts,
        note_failure=sign_in.note_failure,
        say=refusals.say,
        sign_in_first=refusals.sign_in_first,
    )
    return app

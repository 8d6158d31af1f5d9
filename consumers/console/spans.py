"""Spans of time in URLs: a name such as `24h`, or two instants."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import HTTPException, Query, Request

from consumers.console.auth import may_see_all
from consumers.readmodel.model import ReadModel
from schemas.base import EARLIEST, LATEST

__all__ = ["NAMED", "AskedSpan", "Span", "asked_span", "read_instant", "span_of", "written"]

#: Spans that end now.
NAMED = {
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
_LONGEST, _FULL_HOUR = timedelta(days=366), timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class AskedSpan:
    """A span as a URL names it."""

    name: str
    since: datetime | None
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Span:
    """A span of time."""

    since: datetime
    until: datetime
    #: None where two instants name it.
    name: str | None

    @property
    def end(self) -> datetime:
        """What is counted begins before this: up to now counts what clocks ahead of ours say."""
        return self.asked_end or LATEST

    @property
    def asked_end(self) -> datetime | None:
        """The end that a URL names; None where it is now."""
        return None if self.name else self.until

    @property
    def query(self) -> Mapping[str, str]:
        """The span in a URL."""
        if self.name:
            return {"span": self.name}
        return {"from": written(self.since), "to": written(self.until)}


async def asked_span(
    request: Request,
    span: Annotated[str, Query(max_length=20, description=f"One of {', '.join(NAMED)}")] = "24h",
    since: Annotated[
        str | None, Query(alias="from", max_length=40, description="Instead of `span`")
    ] = None,
    until: Annotated[str | None, Query(alias="to", max_length=40)] = None,
) -> AskedSpan:
    """The dependency of a route with figures, which count the requests of all tenants.

    Raises HTTPException with status 403 or 422.
    """
    await may_see_all(request)
    if span not in NAMED:
        raise HTTPException(422, f"span: one of {', '.join(NAMED)} was expected")
    return AskedSpan(
        span,
        read_instant("from", since) if since else None,
        read_instant("to", until) if until else None,
    )


def span_of(asked: AskedSpan, model: ReadModel, now: datetime) -> Span:
    """The span, in full hours where single calls are no longer kept.

    Raises HTTPException with status 422.
    """
    if asked.since is None:
        if asked.until is not None:
            raise HTTPException(422, "from: a time is missing; `to` alone names no span")
        return Span(model.begin(now - NAMED[asked.name], now), now, asked.name)
    since, until = asked.since, min(asked.until or now, now)
    if since >= until:
        raise HTTPException(422, "from: a time before now and before `to` was expected")
    if until - since > _LONGEST:
        raise HTTPException(422, f"from: at most {_LONGEST.days} days before `to` were expected")
    since, until = model.begin(since, now), model.begin(until, now)
    return Span(since, until if since < until else since + _FULL_HOUR, None)


def read_instant(name: str, text: str) -> datetime:
    """The instant in a field of a URL. Raises HTTPException with status 422."""
    with contextlib.suppress(ValueError, OverflowError):
        at = datetime.fromisoformat(text.strip())
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
        if EARLIEST <= at <= LATEST:
            return at
    words = f"{name}: a time such as 2026-11-30T14:00 was expected; without a zone it is UTC"
    raise HTTPException(422, words)


def written(at: datetime) -> str:
    """An instant in a URL, and in a form's field: UTC, to the millisecond."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")

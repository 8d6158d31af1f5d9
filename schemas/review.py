"""Review: what reviewers do with cases, as a chained list of audit lines on `llm.review`."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import (
    AttemptId,
    Contract,
    Generation,
    Identifier,
    Instant,
    JsonObject,
    Name,
    Offset,
    Seconds,
    Tier,
    Words,
)
from schemas.dead_letter import Pointer

__all__ = ["Action", "AuditLine", "Decision"]

#: What a reviewer may decide. `approve`, `edit` and `reject` end in a result, `retry` and `requeue`
#: in another generation of the request; with `discard` the dead letter stays its end.
Action = Literal["approve", "edit", "retry", "requeue", "reject", "discard"]


class Decision(Contract):
    """What is to become of one dead letter. The first decision on it stands."""

    #: Unique, and the same when the same decision is sent again.
    decision_id: Identifier
    request_id: Identifier
    #: Whose request it is. None: an old record; then only the dead letter's place counts.
    tenant: Identifier | None = None
    generation: Generation
    #: The dead letter that it answers.
    letter: Pointer
    action: Action
    #: `approve`: the attempt whose answer is published.
    attempt_id: AttemptId | None = None
    #: `edit`: the answer as the reviewer wrote it.
    output: JsonObject | None = None
    #: `retry`: the tier to try.
    tier: Tier | None = None
    #: `retry`, `requeue`: until when. None: as long from the decision as the policy gives.
    deadline: Instant | None = None
    #: Why, in the reviewer's words.
    reason: Words = ""
    #: True for an answer worth keeping as an example to test prompts and models.
    is_example: bool = False
    #: Seconds after its append in which the decision may be undone.
    undo_seconds: Annotated[float, Field(ge=0, le=60)] = 10.0
    #: Seconds the reviewer spent on the case.
    seconds_spent: Seconds | None = None


class AuditLine(Contract):
    """One act of one person. The lines of a writer are chained by their hashes."""

    #: The console that wrote it, for example its host's name. One chain each.
    writer: Identifier
    #: Counts from 1 along the chain.
    no: Annotated[Offset, Field(ge=1)]
    at: Instant
    who: Identifier
    what: Literal[
        "sign_in",
        "sign_out",
        "sign_in_failed",
        "claim",
        "release",
        "assign",
        "comment",
        "decide",
        "undo",
        "refused",
        "not_sent",
        "reveal",
        "export",
        "job",
    ]
    request_id: Identifier | None = None
    #: Whose request it is. None: an old record, or an act that is about no request.
    tenant: Identifier | None = None
    #: The dead letter it is about.
    letter: Pointer | None = None
    decision: Decision | None = None
    #: `assign`: whose case it is from now on; None: anybody's.
    assignee: Name | None = None
    #: The decision that its reviewer undoes, or that the review stage refuses.
    undoes: Identifier | None = None
    #: SHA-256 in hexadecimal of the content before and after the act.
    before: Name | None = None
    after: Name | None = None
    policy_version: Name | None = None
    note: Words = ""
    #: The hash of the chain's line before; empty in its first.
    previous: Name = ""
    #: SHA-256 in hexadecimal of everything else in the line.
    hash: Name = ""

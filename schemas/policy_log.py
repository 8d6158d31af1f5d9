"""The policy log: releases, the acts about them, and what stands after all acts, on `llm.policy`.

Three kinds of record, told apart by their keys, all in partition 0: `NAME@VERSION` is a release,
`NAME#NUMBER` an act, `NAME` the rollout.
"""

import hashlib
from typing import Annotated, Literal

import orjson
from pydantic import Field, StringConstraints

from schemas.base import (
    Contract,
    Count,
    Identifier,
    Instant,
    JsonObject,
    Many,
    Name,
    Seconds,
    Words,
)

__all__ = [
    "POLICY_PARTITION",
    "SIGNATURE_HEADER",
    "Act",
    "Digest",
    "PolicyAct",
    "PolicyName",
    "Release",
    "Rollout",
    "Seal",
    "Share",
    "VersionLabel",
    "act_key",
    "release_key",
]

#: All acts are in one partition, so that they have one order.
POLICY_PARTITION = 0
#: The header of an act with its Ed25519 signature over the record's value, in base64.
SIGNATURE_HEADER = "tierline-signature"

#: What an act does. `publish` proposes and approves at once; `start`, `step` and `stop` move a
#: candidate's share; `decide` ends a trial; `reviewed` records that the policy was reviewed, and
#: `applied` how long it took until every process had applied an act.
Act = Literal[
    "propose",
    "publish",
    "approve",
    "reject",
    "rollback",
    "freeze",
    "unfreeze",
    "start",
    "step",
    "stop",
    "decide",
    "reviewed",
    "applied",
]

PolicyName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
VersionLabel = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z][0-9A-Za-z.\-]{0,31}$")]
#: The first 12 hexadecimal digits of the SHA-256 of what a release decides by.
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12}$")]
#: The SHA-256 of everything in a release.
Seal = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0, le=1)]
_ActNo = Annotated[int, Field(ge=1, le=99_999_999)]


class Release(Contract):
    """Policy and prompts as one bundle. A version never stands for two of them."""

    name: PolicyName
    version: VersionLabel
    digest: Digest
    #: The policy file's text.
    policy: Words
    #: The texts of the prompts' files by their paths.
    prompts: Annotated[dict[Name, Words], Field(max_length=1_000)] = Field(default_factory=dict)

    @property
    def seal(self) -> str:
        """The SHA-256 of everything in it, in hexadecimal. Acts carry it, and signatures cover it.

        The digest is too short to withstand somebody who looks for a second content with the same.
        """
        content = [self.name, self.version, self.digest, self.policy, self.prompts]
        return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()

    @property
    def key(self) -> bytes:
        return release_key(self.name, self.version)


class PolicyAct(Contract):
    """One act of one person, or of the guard. Acts are numbered from 1 without gaps."""

    policy: PolicyName
    number: _ActNo
    what: Act
    who: Identifier
    at: Instant
    #: The key that signs it. None: nobody signs.
    key_id: Identifier | None = None
    #: Why; for a proposal its goal.
    why: Words = ""
    #: A proposal: what is wrong today, what shall be better and by how much, how to go back.
    problem: Words = ""
    expected: Words = ""
    way_back: Words = ""
    #: The release it is about.
    version: VersionLabel | None = None
    digest: Digest | None = None
    seal: Seal | None = None
    #: What the release can use that asks for a second approval when it is new: `provider NAME`.
    reach: Many[Name] = Field(default_factory=list)
    #: The difference to the active release, in words.
    changes: Many[Words] = Field(default_factory=list)
    #: The number of the act that it is about. `approve`, `reject`, `start`: the proposal.
    #: `unfreeze`: the freeze. `decide`: what began the trial.
    of: _ActNo | None = None
    #: `start`, `step`: the share of requests that the candidate gets.
    share: Share | None = None
    #: `start`: the shares to come, and what the candidate is narrowed to; empty: everything.
    steps: Annotated[list[Share], Field(max_length=20)] = Field(default_factory=list)
    tasks: Many[Name] = Field(default_factory=list)
    plans: Many[Name] = Field(default_factory=list)
    #: `start`: what the arms are drawn by, beside the conversation.
    salt: Name = ""
    #: `freeze`: from when until when. From None: from now on.
    since: Instant | None = None
    until: Instant | None = None
    #: Why a freeze is passed.
    break_glass: Words = ""
    #: The trial's end, and the figures before the change.
    trial_until: Instant | None = None
    baseline: JsonObject | None = None
    #: `decide`: what becomes of what was tried.
    decision: Literal["keep", "change", "remove"] | None = None
    #: `applied`: after how long, and in how many processes.
    seconds: Seconds | None = None
    processes: Count | None = None

    @property
    def key(self) -> bytes:
        return act_key(self.policy, self.number)


class Rollout(Contract):
    """What stands after an act, for readers that do not fold all of them."""

    name: PolicyName
    #: The last act, and when it was written.
    number: _ActNo
    at: Instant
    active: Digest | None = None
    active_version: VersionLabel | None = None
    previous: Digest | None = None
    candidate: Digest | None = None
    candidate_version: VersionLabel | None = None
    share: Share = 0.0
    tasks: Many[Name] = Field(default_factory=list)
    plans: Many[Name] = Field(default_factory=list)
    salt: Name = ""
    frozen_until: Instant | None = None


def release_key(name: str, version: str) -> bytes:
    """The key of a release's record."""
    return f"{name}@{version}".encode()


def act_key(name: str, number: int) -> bytes:
    """The key of an act's record."""
    return f"{name}#{number:08d}".encode()

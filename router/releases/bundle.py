"""A release as processes apply it: a policy with its prompts, which never change."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from router.attempt.fallback import missing_texts
from router.errors import PromptError
from router.policy.load import load_policy
from router.policy.table import Policy, digest_of
from router.prompts.files import is_beside
from router.prompts.rendering import Prompts
from schemas.policy_log import Release

__all__ = ["Bundle"]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A policy and its prompts. A request is decided, prompted and judged by one of them."""

    policy: Policy
    prompts: Prompts
    #: What they were built from: the policy's text, and those of the prompts' files by path.
    text: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    #: Of all that decides: the policy without its examples, and the prompts' texts.
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        digest = digest_of([self.policy.digest, dict(self.files)])
        object.__setattr__(self, "digest", digest)

    @classmethod
    def of_texts(cls, text: str, files: Mapping[str, str], file: str = "policy") -> "Bundle":
        """The bundle of a policy's text and the files of its prompts by path.

        `file` names the policy in errors. Raises PolicyError and PromptError.
        """
        kept = {path: files[path] for path in sorted(files) if not is_beside(path)}
        policy, prompts = load_policy(text, file), Prompts.load(kept)
        if missing := missing_texts(policy, prompts):
            raise PromptError("\n".join(missing))
        return cls(policy, prompts, text, kept)

    @property
    def release(self) -> Release:
        """The record of it. Raises ValidationError for texts that are too long for one."""
        return Release(
            name=self.policy.name,
            version=self.policy.version,
            digest=self.digest,
            policy=self.text,
            prompts=dict(self.files),
        )

    @property
    def label(self) -> str:
        """Its version and digest, as people are shown it."""
        return f"{self.policy.version} ({self.digest})"

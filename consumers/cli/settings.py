"""`tierline settings` and `tierline version`: how this deployment is set up."""

import os
import textwrap
from importlib.metadata import version as installed
from typing import Annotated

from typer import Option

from consumers.cli.common import AsJson, read_settings
from consumers.cli.terminal import console, print_json
from consumers.policy_file import read_policy
from consumers.setting_list import setting_rows
from consumers.settings import Settings
from consumers.texts import say

__all__ = ["list_settings", "version"]


def list_settings(
    changed: Annotated[
        bool, Option("--changed", help="List only those that differ from their default.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List every setting: its value, where that comes from, and what it means.

    Secrets are masked. Spans of time may be written as 30s, 15m or 1h30m.
    """
    rows = [
        row
        for row in setting_rows(Settings(), os.environ)
        if not changed or row.source != "default"
    ]
    if as_json:
        print_json([row._asdict() for row in rows])
        return
    indent = " " * 4
    for row in rows:
        where = "" if row.source == "default" else f"  (set by {row.source})"
        say(f"{row.variable} = {row.value}{where}")
        meaning = textwrap.fill(
            f"{row.meaning} [{row.type}; default: {row.default}]",
            min(console().width, 100),
            initial_indent=indent,
            subsequent_indent=indent,
            break_on_hyphens=False,
            break_long_words=False,
        )
        say(meaning)


def version(as_json: AsJson = False) -> None:
    """Print the versions of Tierline and of the policy in use."""
    policy = read_policy(read_settings(needs_kafka=False))
    if as_json:
        print_json({"tierline": installed("tierline"), "policy": policy.version})
    else:
        words = f"tierline {installed('tierline')}, policy {policy.name} {policy.version}"
        console().print(words)

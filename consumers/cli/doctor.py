"""`tierline doctor`: checks of what a process needs, each with what to do about it."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass

from consumers.cli.common import (
    FAILED,
    OK,
    AsJson,
    KafkaAddress,
    UserError,
    asynchronous,
    read_settings,
)
from consumers.cli.provided import SIMULATED, named_as_in
from consumers.cli.terminal import print_json, print_table
from consumers.lab.broker.errors import BrokerError
from consumers.lab.broker.java import find_java
from consumers.policy_file import policy_file, reused_version
from consumers.providers.settings import ProviderSettingsError, variable_of
from consumers.rules import prompts_folder, released_rules
from consumers.runtime.clients import Clients, has_fast_records
from consumers.runtime.connection import KafkaUnreachableError, connected
from consumers.runtime.health import clock_problem
from consumers.runtime.status import clock_ahead
from consumers.runtime.topics import check_timestamps, check_topics, describe_brokers
from consumers.settings import Settings
from router.errors import RouterError

__all__ = ["Finding", "checkup", "doctor"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check."""

    name: str
    ok: bool
    detail: str


@asynchronous
async def doctor(kafka: KafkaAddress = None, as_json: AsJson = False) -> int:
    """Check everything a process needs: client library, policy, prompts, Kafka, topics, Java."""
    findings = await checkup(kafka)
    rows = [
        {"check": finding.name, "ok": finding.ok, "detail": finding.detail} for finding in findings
    ]
    if as_json:
        print_json(rows)
    else:
        table = [{**row, "": "ok" if row["ok"] else "FAIL"} for row in rows]
        print_table(table, ("", "check", "detail"))
    return OK if all(finding.ok for finding in findings) else FAILED


async def checkup(kafka: str | None) -> Sequence[Finding]:
    """Run the checks; a later one is left out when an earlier one makes it pointless."""
    findings = [
        Finding(
            "Kafka client",
            has_fast_records(),
            "its C extension is loaded"
            if has_fast_records()
            else "its C extension is missing: reading is 77 times slower; reinstall aiokafka",
        )
    ]
    findings += _rules(read_settings(needs_kafka=False))
    findings.append(_java())
    try:
        settings = read_settings(kafka)
    except (UserError, KafkaUnreachableError) as error:
        return [*findings, Finding("Kafka", ok=False, detail=str(error))]
    clients = Clients(settings.kafka)
    try:
        async with connected(clients):
            brokers, is_recent = await describe_brokers(clients)
            problems = [*await check_topics(clients), *await check_timestamps(clients)]
            ahead = None if problems else await clock_ahead(clients)
    except KafkaUnreachableError as error:
        detail = str(error)
        if _something_answers(settings.kafka.bootstrap or ""):
            detail = (
                f"{settings.kafka.bootstrap} answers, but not as Kafka with "
                f"{settings.kafka.security}: check TIERLINE_KAFKA__SECURITY and the keys"
            )
        return [*findings, Finding("Kafka", ok=False, detail=detail)]
    findings.append(Finding("Kafka", ok=True, detail=f"{settings.kafka.bootstrap}, {brokers}"))
    if not is_recent:
        detail = "it is older than 4.0; our guarantees are tested on 4.0 and later only: upgrade it"
        findings.append(Finding("Kafka's release", ok=False, detail=detail))
    if not problems:
        findings.append(Finding("topics", ok=True, detail="all exist"))
        [wrong] = clock_problem(ahead) or [""]
        agrees = "it agrees with Kafka's"
        if ahead is None:
            agrees = "not compared: this user may not write"
        findings.append(Finding("clock", ok=not wrong, detail=wrong or agrees))
    findings += [Finding(problem.topic, ok=False, detail=problem.message) for problem in problems]
    return findings


def _something_answers(bootstrap: str) -> bool:
    host, _, port = bootstrap.partition(",")[0].strip().rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=2):
            return True
    except OSError:
        return False


def _rules(settings: Settings) -> list[Finding]:
    folder = prompts_folder(settings)
    try:
        rules = released_rules(settings)
        reused = reused_version(policy_file(settings), rules.policy)
    except (RouterError, OSError) as error:
        return [Finding("policy and prompts", ok=False, detail=str(error))]
    policy = rules.policy
    findings = [
        Finding(
            "policy",
            ok=reused is None,
            detail=reused or f"{policy.name} {policy.version} ({policy.digest})",
        ),
        Finding("prompts", ok=True, detail=f"{len(rules.prompts.contracts)} in {folder}"),
    ]
    settings = named_as_in(policy, settings)
    for name in sorted({model.provider for model in policy.models.values()}):
        entry = settings.providers.get(name)
        if entry is None:
            is_ours = name == SIMULATED
            detail = "started by `up`" if is_ours else f"set {variable_of(name)}__BASE_URL"
            findings.append(Finding(f"provider {name}", ok=is_ours, detail=detail))
            continue
        try:
            entry.api_key(name)
        except ProviderSettingsError as error:
            findings.append(Finding(f"provider {name}", ok=False, detail=str(error)))
        else:
            is_known = _resolves(*entry.address)
            detail = f"the host {entry.host} of its base_url does not resolve: check it, or DNS"
            if is_known:
                detail = entry.base_url
            findings.append(Finding(f"provider {name}", ok=is_known, detail=detail))
    return findings


def _resolves(host: str, port: int) -> bool:
    try:
        return bool(socket.getaddrinfo(host, port))
    except OSError:
        return False


def _java() -> Finding:
    try:
        return Finding("Java for a local Kafka", ok=True, detail=str(find_java()))
    except BrokerError as error:
        # Only needed where `up` starts Kafka.
        detail = f"not needed with --kafka; {error}"
        return Finding("Java for a local Kafka", ok=True, detail=detail)

"""Addresses that must not be called, in every form in which an address can be written or resolved.

Each goes through the provider's settings and a real call, or through the sign-in's and the
exporter's own way to an address. Blocked is what is refused in words or never sent; nothing may
connect anywhere, raise an exception of a library, or look a hostile name up where that is a number.
"""

import asyncio
import contextlib
import ipaddress
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pydantic import ValidationError

from consumers.console.oidc import SignInRefusedError, _call, _discovered
from consumers.providers.client import Providers
from consumers.providers.settings import ProviderSettings
from consumers.runtime import loopback
from consumers.sign_in_settings import OidcSettings
from consumers.telemetry.environment import TelemetryError, check_values
from router.reply.reply import CallFailure
from schemas.reasons import Reason
from tests.probes.report import ProbeClass, Report

__all__ = ["CLASS"]

_PRIVATE = (
    "127.0.0.1", "127.255.255.254", "10.0.0.7", "172.16.3.4", "172.31.255.1", "192.168.1.1",
    "100.64.0.9", "0.0.0.0", "0.1.2.3", "198.18.0.1", "192.0.0.8", "192.0.2.1", "192.88.99.1",
    "224.0.0.1", "240.0.0.1", "255.255.255.255",
)  # fmt: skip
_METADATA = (
    "169.254.169.254", "169.254.170.2", "169.254.0.1", "100.100.100.200", "168.63.129.16",
    "192.80.8.124",
    "192.0.0.192",
)  # fmt: skip
_PRIVATE_6 = (
    "::1", "::", "fc00::1", "fd12:3456::1", "fec0::1", "ff02::1", "100::1", "2001:db8::1",
    "3fff::1", "5f00::1", "64:ff9b:1::1", "2001:10::1", "2001:20::1",
)  # fmt: skip
_METADATA_6 = (
    "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fd00:42::42", "fd00:c1::a9fe:a9fe",
    "fd00:a9fe:a9fe::1", "fe80::a9fe:a9fe", "fe80::1",
)  # fmt: skip
_HOST = "models.example"
#: Whatever is about to connect is noted in the last of these.
_seen: list[list[str]] = []


def _carrying(address: str) -> Iterator[tuple[str, str]]:
    """An IPv4 address within IPv6 ones."""
    value = int(ipaddress.IPv4Address(address))
    high, low = f"{value >> 16:x}", f"{value & 0xFFFF:x}"
    flipped = value ^ 0xFFFF_FFFF
    yield "mapped", f"::ffff:{address}"
    yield "mapped in hex", f"::ffff:{high}:{low}"
    yield "compatible", f"::{high}:{low}"
    yield "translated", f"::ffff:0:{high}:{low}"
    yield "NAT64", f"64:ff9b::{address}"
    yield "NAT64 in hex", f"64:ff9b::{high}:{low}"
    yield "local NAT64", f"64:ff9b:1::{high}:{low}"
    first = value >> 16
    rest = value & 0xFFFF
    yield "local NAT64 of 48 bits", f"64:ff9b:1:{first:x}:{rest >> 8:x}:{(rest & 255) << 8:x}::"
    yield "6to4", f"2002:{high}:{low}::1"
    yield "Teredo", f"2001:0:4136:e378:8000:63bf:{flipped >> 16:x}:{flipped & 0xFFFF:x}"
    yield "Teredo's server", f"2001:0:{high}:{low}::1"
    yield "ISATAP", f"2600:1f18::5efe:{high}:{low}"
    yield "ISATAP, global", f"2600:1f18::200:5efe:{high}:{low}"


def _spelt(address: str) -> Iterator[tuple[str, str]]:
    """An IPv4 address in the forms that some parser takes for it."""
    yield from _numbers(address)
    yield from _disguised(address)


def _numbers(address: str) -> Iterator[tuple[str, str]]:
    """In the numbers that inet_aton and its kind read."""
    parts = [int(part) for part in address.split(".")]
    value = int(ipaddress.IPv4Address(address))
    yield "plain", address
    yield "decimal", str(value)
    yield "hex", f"0x{value:x}"
    yield "HEX", f"0X{value:X}"
    yield "octal", f"0{value:o}"
    yield "dotted hex", ".".join(f"0x{part:x}" for part in parts)
    yield "dotted octal", ".".join(f"0{part:o}" for part in parts)
    yield "padded", ".".join(f"{part:03d}" for part in parts)
    yield "two parts", f"{parts[0]}.{value & 0xFFFFFF}"
    yield "three parts", f"{parts[0]}.{parts[1]}.{value & 0xFFFF}"
    yield "mixed", f"0x{parts[0]:x}.{parts[1]}.0{parts[2]:o}.{parts[3]}"
    yield "overflow", str(value + 2**32)
    yield "a dot behind", f"{address}."
    yield "two dots behind", f"{address}.."


def _disguised(address: str) -> Iterator[tuple[str, str]]:
    """In signs that become digits and dots, and with more around it than a host."""
    yield "full width", "".join(chr(ord(one) + 0xFEE0) if one != "." else one for one in address)
    yield "full-width dots", address.replace(".", "\uff0e")
    yield "ideographic dots", address.replace(".", "\u3002")
    yield "half-width dots", address.replace(".", "\uff61")
    yield (
        "Arabic digits",
        "".join(chr(0x660 + int(one)) if one.isdigit() else one for one in address),
    )
    yield (
        "mathematical digits",
        "".join(chr(0x1D7CE + int(one)) if one.isdigit() else one for one in address),
    )
    yield "superscript", address.replace("1", "\u00b9").replace("2", "\u00b2")
    yield "percent-encoded", "".join(f"%{ord(one):02x}" for one in address)
    yield "percent-encoded dots", address.replace(".", "%2e")
    yield "user", f"{_HOST}@{address}"
    yield "user and password", f"{_HOST}:443@{address}"
    yield "empty user", f"@{address}"
    yield "a soft hyphen", f"{address[:2]}\u00ad{address[2:]}"
    yield "a zero-width space", f"{address}\u200b"
    yield "a null", f"{address}\x00"
    yield "an encoded null", f"{address}%00.{_HOST}"
    yield "a tab", f"{address[:1]}\t{address[1:]}"
    yield "a line end", f"{address}\n"
    yield "a return and a line", f"{address}\r\nHost: x"
    yield "a blank before", f" {address}"
    yield "a backslash", f"{address}\\@{_HOST}"
    yield "a fragment", f"{address}#@{_HOST}"
    yield "a question", f"{address}?@{_HOST}"
    yield "port 0", f"{address}:0"
    yield "a port too large", f"{address}:99999"
    yield "a port of no number", f"{address}:http"
    yield "a full-width port", f"{address}:\uff18\uff10"
    yield "brackets", f"[{address}]"
    yield "one bracket", f"[{address}"
    yield "a future address", f"[v1.{address}]"


#: Hosts that are no address, and still not to be called.
_NAMES = (
    "localhost", "LOCALHOST", "localhost.", "sub.localhost", "\u24db\u24de\u24d2alhost",
    "metadata.tencentyun.com", "metadata.goog", "METADATA.tencentyun.com",
    "metadata", "metadata.google.internal", "metadata.google.internal.", "METADATA.google.internal",
    "instance-data", "instance-data.ec2.internal", "\uff4detadata", "metadata%2egoogle.internal",
    "[::1%25lo]", "[fe80::1%25eth0]", "[fe80::1%eth0]", "[::1%lo]", "[::]:0", "[]", "[:::1]",
    "[::ffff:127.0.0.1.]", "::1", "a..b", "-a.example", "a" * 64 + ".example", ("a" * 60 + ".") * 5,
    "", ".", "..", "%", "a b.example", "xn--.example", "exa\u00admple.com", "\u2024example", "a,b",
    "a;b", "a|b", "a{b}", "a<b", 'a"b', "a^b", "a`b", "a\u2028b", "\ud800.example",
)  # fmt: skip
#: Endpoints that an issuer's own document may name.
_ENDPOINTS: tuple[object, ...] = (
    "http://169.254.169.254/latest", "https://169.254.169.254/latest", "https://[fd00:ec2::254]/",
    "http://models.example/", "https://10.0.0.7/token", "https://127.0.0.1/", "https://localhost/",
    "https://2130706433/", "https://0x7f000001/", "https://[::ffff:10.0.0.7]/",
    "https://[64:ff9b::a00:7]/", "https://168.63.129.16/", "https://user@10.0.0.7/",
    "https://\uff11\uff10.0.0.7/", "file:///etc/passwd", "gopher://10.0.0.7/", "ftp://models.example",
    "javascript:alert(1)", "data:text/html,x", "//10.0.0.7/", "", None, 7, {}, "https://", "https://[",
    "https://models.example:0/", "https://models.example:70000/", "https://models.example\n/",
)  # fmt: skip


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _seen and event == "socket.__new__" and arguments[1] != socket.AF_UNIX:
        _seen[-1].append("a socket")  # which is the last thing before the guard would refuse it


@contextlib.asynccontextmanager
async def _resolving(*addresses: str) -> AsyncIterator[list[str]]:
    """Every name has these addresses; yields a line for every connection that is begun."""
    loop, made = asyncio.get_running_loop(), list[str]()
    was = loop.getaddrinfo

    async def getaddrinfo(host: Any, port: Any, **_: Any) -> Any:
        return [_info(one, port) for one in addresses]

    loop.getaddrinfo = getaddrinfo  # type: ignore[method-assign]
    _seen.append(made)
    try:
        yield made
    finally:
        _seen.pop()
        loop.getaddrinfo = was  # type: ignore[method-assign]


def _info(address: str, port: int) -> tuple[Any, ...]:
    kind = socket.AF_INET6 if ":" in address else socket.AF_INET
    where = (address, port, 0, 0) if ":" in address else (address, port)
    return kind, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", where


@dataclass(frozen=True, slots=True)
class _Case:
    """A URL that must not be called, and the address that its host would have."""

    name: str
    url: str
    resolves_to: str
    allow_private: bool = False
    fields: Mapping[str, Any] = field(default_factory=dict)


async def _try_calls(report: Report, cases: Sequence[_Case]) -> None:
    """Call them all; those that the settings refuse are blocked before."""
    settings: dict[str, ProviderSettings] = {}
    for number, case in enumerate(cases):
        made = {"base_url": case.url, "allow_private": case.allow_private, **case.fields}
        try:
            settings[str(number)] = ProviderSettings.model_validate(made)
        except ValidationError:
            report.check(case.name, is_blocked=True)
    async with Providers(settings) as providers:
        for number, case in enumerate(cases):
            if str(number) in settings:
                report.note(case.name, through=await _called(providers, str(number), case))


async def _called(providers: Providers, name: str, case: _Case) -> str | None:
    """What a call did that it must not, or None."""
    async with _resolving(case.resolves_to) as connected:
        try:
            outcome = await providers.call(
                name,
                {"model": "m", "messages": []},
                attempt_id="r.1.1",
                request_id="r",
                timeout=timedelta(seconds=5),
            )
        except Exception as error:  # noqa: BLE001  the probe
            return f"the call raised {type(error).__name__}"
    if connected:
        return f"it made {connected[0]}"
    if not isinstance(outcome, CallFailure) or outcome.reason is not Reason.NOT_SENT:
        return f"it ended as {outcome}"
    return None


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _addresses() -> Iterator[_Case]:
    """Every address, as a host that is a number and as what a harmless name resolves to."""
    plain = [(one, one in _METADATA) for one in (*_PRIVATE, *_METADATA)]
    forms = [
        (f"{one} {form}", made, is_metadata)
        for one, is_metadata in plain
        for form, made in _carrying(one)
    ]
    forms += [(one, one, is_metadata) for one, is_metadata in plain]
    forms += [(one, one, False) for one in _PRIVATE_6] + [(one, one, True) for one in _METADATA_6]
    for number, (name, address, is_metadata) in enumerate(forms):
        url, named = f"https://{_in_url(address)}/v1", f"https://h{number}.example/v1"
        yield _Case(f"{name} as a host", url, address)
        yield _Case(f"{name} of a name", named, address)
        if is_metadata:
            suffix = "although private is allowed"
            yield _Case(f"{name} as a host {suffix}", url, address, True)
            yield _Case(f"{name} of a name {suffix}", named, address, True)


def _spellings() -> Iterator[_Case]:
    for address in ("127.0.0.1", "10.0.0.7", *_METADATA):
        for form, host in _spelt(address):
            yield _Case(f"{address} {form}", f"https://{host}/v1", address)
            if address in _METADATA:
                suffix = "although private is allowed"
                yield _Case(f"{address} {form} {suffix}", f"https://{host}/v1", address, True)
    for name in _NAMES:
        # Whoever resolves it gets the metadata service, which no setting allows.
        yield _Case(f"the host {name!r}", f"https://{name}/v1", _METADATA[0], True)


def _parts() -> Iterator[_Case]:
    """What settings and models' names make of a URL is a failure of the call, and no exception."""
    paths = ("/\x00", "/a\nb", "/\u2028", "/" + "x" * 70_000, "//10.0.0.7/", "/..//", "/\ud800",
             "/{model}\r\nx: y", "/@10.0.0.7/", "/\\10.0.0.7", "/%", "/%zz")  # fmt: skip
    for path in paths:
        url = f"https://{_HOST}/v1"
        yield _Case(f"the path {path[:20]!r}", url, "127.0.0.1", fields={"path": path})
    for value in ("\x00", "\ud800", "x" * 70_000, "a\r\nb", "&url=http://10.0.0.7", "#"):
        url, query = f"https://{_HOST}/v1", {"api-version": value}
        yield _Case(f"the query {value[:20]!r}", url, "127.0.0.1", fields={"query": query})


async def _sign_in(report: Report) -> None:
    """An issuer that is public and honest about itself, and sends us elsewhere."""
    public = OidcSettings(issuer="https://issuer.example", client_id="x", roles={})
    for number, endpoint in enumerate(_ENDPOINTS):
        async with _resolving("10.0.0.7", "169.254.169.254") as connected:
            try:
                await _call(public, str(endpoint))
                through: str | None = "it was asked"
            except SignInRefusedError:
                through = f"it made {connected[0]}" if connected else None
            except Exception as error:  # noqa: BLE001  the probe
                through = f"it raised {type(error).__name__}"
        report.note(f"sign-in {number} {endpoint!r}", through=through)
    for one in ("10.0.0.7", "169.254.169.254", "64:ff9b::a9fe:a9fe", "::1"):
        async with _resolving(one) as connected:
            with contextlib.suppress(SignInRefusedError):
                await _discovered(public)
                connected.append("an answer")
        report.check(f"the issuer's name is {one}", is_blocked=not connected)
    for form, host in _spelt("169.254.169.254"):
        try:
            OidcSettings(issuer=f"https://{host}/", client_id="x", roles={}, allow_private=True)
            through = "the setting was taken"
        except ValidationError:
            through = None
        report.note(f"issuer {form}", through=through)


def _exporting(report: Report) -> None:
    """Where telemetry goes is the operator's choice, and still no metadata service."""
    hosts = [*_spelt("169.254.169.254"), *_carrying("100.100.100.200")]
    for form, host in hosts:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{_in_url(host) if '::' in host else host}/x"}
        try:
            check_values(env, ("otlp",))
            through: str | None = "the setting was taken"
        except TelemetryError:
            through = None
        report.note(f"exporter {form}", through=through)


async def _guard(report: Report) -> None:
    """The guard of these probes, which must hold for the rest to mean something."""
    loop = asyncio.get_running_loop()
    for host in ("192.0.2.1", "2001:db8::1", "models.example"):
        for name, reach in (
            ("connects", loop.create_connection(asyncio.Protocol, host, 9)),
            ("looks up", loop.getaddrinfo(host, 9)),
            ("connects in a thread", asyncio.to_thread(socket.create_connection, (host, 9), 1)),
        ):
            try:
                await reach
                is_blocked = False
            except loopback.OutsideError:
                is_blocked = True
            except OSError:  # it was tried
                is_blocked = False
            report.check(f"nothing {name} to {host}", is_blocked=is_blocked)


async def _run(report: Report, bootstrap: str) -> None:
    del bootstrap
    sys.addaudithook(_note)
    await _guard(report)
    await _try_calls(report, [*_addresses(), *_spellings(), *_parts()])
    await _sign_in(report)
    _exporting(report)
    async with _resolving(
        "127.0.0.1", "93.184.215.14"
    ) as connected:  # what is right is still called
        settings = ProviderSettings(base_url=f"https://{_HOST}/v1")
        async with Providers({"p": settings}) as providers:
            await providers.call(
                "p", {"model": "m", "messages": []}, attempt_id="r.1.1", request_id="r",
                timeout=timedelta(seconds=1),
            )  # fmt: skip
        report.check("a public address of a name is tried", is_blocked=connected == ["a socket"])


CLASS = ProbeClass("ssrf", 80, _run)

"""Who is called at all: certificates, names and addresses. A key never reaches anybody else."""

import shutil
import socket
import ssl
import subprocess
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from consumers import clock
from consumers.providers.client import Providers
from consumers.providers.outcomes import what_failed
from consumers.providers.resolver import GuardedResolver
from consumers.providers.settings import ProviderSettings, ProviderSettingsError
from router.reply.reply import CallFailure, Reply
from schemas.reasons import Reason
from tests.unit.consumers.servers import a_response, never, sending, serving

BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
ANSWER = b'{"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}'


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (aiohttp.ClientConnectorDNSError, "DNS has no address for the host"),
        (aiohttp.ClientConnectorError, "the connection was refused or timed out"),
    ],
)
def test_a_failed_connection_is_told_in_words(kind: Any, words: str) -> None:
    assert what_failed(kind(None, OSError())) == words


class Authority:
    """An authority of our own that signs what no good one would."""

    def __init__(self, folder: Path, openssl: str) -> None:
        self._folder, self._openssl = folder, openssl
        self.certificate = folder / "ca.pem"
        self._run("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ours -keyout ca.key "
                  "-addext keyUsage=critical,keyCertSign -out ca.pem")  # fmt: skip
        (folder / "index.txt").touch()
        (folder / "ca.conf").write_text(
            "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\nnew_certs_dir=.\nrand_serial=yes\n"
            "default_md=sha256\npolicy=p\ncopy_extensions=copy\n[p]\ncommonName=supplied\n"
        )

    def context(
        self, name: str = "IP:127.0.0.1", days: tuple[int, int] = (-1, 1)
    ) -> ssl.SSLContext:
        """A server's side: for these names, and valid from and until so many days from today."""
        start, end = (f"{clock.now() + timedelta(days=day):%Y%m%d%H%M%SZ}" for day in days)
        self._run(f"req -newkey rsa:2048 -nodes -subj /CN=x -keyout key.pem -out new.csr "
                  f"-addext subjectAltName={name}")  # fmt: skip
        self._run(f"ca -batch -config ca.conf -cert ca.pem -keyfile ca.key -in new.csr "
                  f"-startdate {start} -enddate {end} -notext -out cert.pem")  # fmt: skip
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._folder / "cert.pem", self._folder / "key.pem")
        return context

    def _run(self, arguments: str) -> None:
        subprocess.run(
            [self._openssl, *arguments.split()], cwd=self._folder, check=True, capture_output=True
        )


@pytest.fixture
def authority(tmp_path, monkeypatch) -> Authority:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is needed to make certificates")
    monkeypatch.setenv("A_KEY", "secret")
    return Authority(tmp_path, openssl)


async def called(url: str, within: float = 5, **fields: Any) -> Reply | CallFailure:
    settings = ProviderSettings(base_url=url, **{"allow_private": True, **fields})
    async with Providers({"p": settings}) as providers:
        return await providers.call(
            "p", BODY, attempt_id="r.1.1", request_id="r", timeout=timedelta(seconds=within)
        )


class TestCertificates:
    async def test_an_authority_of_our_own_vouches_where_it_is_named(self, authority):
        async with serving(sending(a_response(ANSWER)), authority.context()) as server:
            outcome = await called(server.url, ca_file=authority.certificate, api_key_env="A_KEY")

        assert isinstance(outcome, Reply), outcome
        assert "Bearer secret" in server.heads[0]

    @pytest.mark.parametrize(
        ("how", "trusted", "words"),
        [
            pytest.param({"days": (-3, -1)}, True, "expired", id="expired"),
            pytest.param({"days": (1, 3)}, True, "not yet valid", id="of tomorrow"),
            pytest.param({"name": "DNS:example.com"}, True, "mismatch", id="another's"),
            pytest.param({}, False, "local issuer", id="nobody vouches for it"),
        ],
    )
    async def test_with_any_other_the_key_is_never_sent(self, authority, how, trusted, words):
        async with serving(sending(b""), authority.context(**how)) as server:
            ca_file = authority.certificate if trusted else None
            outcome = await called(server.url, ca_file=ca_file, api_key_env="A_KEY")

        assert isinstance(outcome, CallFailure)
        assert outcome.reason is Reason.NOT_SENT
        assert words in outcome.detail
        assert server.raw_bytes == 0

    async def test_an_old_tls_is_refused(self, authority):
        context = authority.context()
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="deprecated"):
            context.minimum_version = ssl.TLSVersion.TLSv1
        with pytest.warns(DeprecationWarning, match="deprecated"):
            context.maximum_version = ssl.TLSVersion.TLSv1
        async with serving(sending(b""), context) as server:
            outcome = await called(server.url, ca_file=authority.certificate, api_key_env="A_KEY")

        assert isinstance(outcome, CallFailure)
        assert outcome.reason is Reason.NOT_SENT
        assert server.raw_bytes == 0

    async def test_an_authority_vouches_for_its_own_provider_alone(self, authority):
        async with serving(sending(a_response(ANSWER)), authority.context()) as server:
            settings = {
                "own": ProviderSettings(
                    base_url=server.url, allow_private=True, ca_file=authority.certificate
                ),
                "other": ProviderSettings(base_url=server.url, allow_private=True),
            }
            async with Providers(settings) as providers:
                outcomes = [
                    await providers.call(
                        name,
                        BODY,
                        attempt_id="r.1.1",
                        request_id="r",
                        timeout=timedelta(seconds=5),
                    )
                    for name in settings
                ]

        assert [isinstance(outcome, Reply) for outcome in outcomes] == [True, False]

    async def test_a_file_without_certificates_stops_the_start(self, tmp_path):
        (tmp_path / "ca.pem").write_text("nothing")

        with pytest.raises(ProviderSettingsError, match="holds no usable certificate"):
            await called("https://127.0.0.1/v1", ca_file=tmp_path / "ca.pem")


def resolving(monkeypatch: pytest.MonkeyPatch, *rounds: list[str]) -> list[str]:
    """Lets every name resolve so, one round after the other; the names that were asked for."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, *_: object, **__: object) -> list[Any]:
        addresses = rounds[min(len(asked), len(rounds) - 1)]
        asked.append(host)
        return [
            (
                socket.AF_INET6 if ":" in one else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (one, port),
            )
            for one in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


class TestNames:
    @pytest.mark.parametrize(
        "address",
        ["127.0.0.1", "10.0.0.7", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"],
    )
    async def test_a_public_name_with_a_private_address_is_not_called(self, monkeypatch, address):
        """The name looked public when the settings were read."""
        asked = resolving(monkeypatch, [address])
        outcome = await called("https://models.example.com/v1", allow_private=False)

        assert isinstance(outcome, CallFailure)
        assert outcome.reason is Reason.NOT_SENT
        assert asked == ["models.example.com"]

    async def test_only_public_addresses_are_left(self, monkeypatch):
        resolving(monkeypatch, ["10.0.0.7", "93.184.215.14", "169.254.169.254"])
        found = await GuardedResolver(allow_private=False).resolve("models.example.com", 443)

        assert [one["host"] for one in found] == ["93.184.215.14"]

    async def test_an_answer_that_changes_is_looked_at_again(self, monkeypatch):
        resolving(monkeypatch, ["93.184.215.14"], ["127.0.0.1"])
        resolver = GuardedResolver(allow_private=False)

        assert await resolver.resolve("models.example.com", 443)
        with pytest.raises(OSError, match="no address that may be called"):
            await resolver.resolve("models.example.com", 443)

    async def test_a_private_host_may_be_called_where_that_is_said_but_no_metadata(
        self, monkeypatch
    ):
        resolving(monkeypatch, ["127.0.0.1", "169.254.169.254"])
        found = await GuardedResolver(allow_private=True).resolve("models.internal", 80)

        assert [one["host"] for one in found] == ["127.0.0.1"]

    async def test_a_name_nobody_resolves_in_time_was_never_sent(self, monkeypatch):
        gate = threading.Event()
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: gate.wait(10) or [])
        with pytest.raises(OSError, match="not resolved within"):
            await GuardedResolver(allow_private=False, patience=0.1).resolve(
                "models.example.com", 443
            )
        gate.set()

    async def test_a_server_that_does_not_take_the_connection_was_never_sent(self):
        """A backlog of one that is full: the handshake waits, and no byte has been written."""
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            listening.listen(0)
            port = listening.getsockname()[1]
            held = []
            for _ in range(8):
                one = socket.socket()
                one.setblocking(False)
                one.connect_ex(("127.0.0.1", port))
                held.append(one)
            outcome = await called(
                f"http://127.0.0.1:{port}/v1", connect_timeout=timedelta(milliseconds=200)
            )
            for one in held:
                one.close()

        assert isinstance(outcome, CallFailure)
        assert outcome.reason is Reason.NOT_SENT

    async def test_silence_after_the_connection_is_another_matter(self):
        async with serving(never) as server:
            outcome = await called(server.url, within=0.3)

        assert isinstance(outcome, CallFailure)
        assert outcome.reason is Reason.OUTCOME_UNKNOWN

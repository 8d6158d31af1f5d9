"""What may be called, and what a refusal says. What may not is probed in tests/probes."""

import re
from ipaddress import ip_address

import pytest
from pydantic import ValidationError

from consumers.addresses import check_url, is_metadata, is_public
from consumers.providers.settings import ProviderSettings


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "172.15.255.255",
        "172.32.0.1",
        "100.63.255.255",
        "100.128.0.1",
        "168.63.129.17",
        "2001:4860:4860::8888",
        "2606:4700::1111",
        "2a00:1450:4001::200e",
        pytest.param("::ffff:8.8.8.8", id="mapped"),
        pytest.param("64:ff9b::8.8.8.8", id="by way of NAT64"),
    ],
)
def test_a_public_address_is_public(address):
    assert is_public(ip_address(address))
    assert not is_metadata(ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.com/v1",
        "https://API.Example.com:8443/v1",
        "https://xn--bcher-kva.example/v1",
        "https://under_score.example/v1",
        "https://8.8.8.8/v1",
        "https://[2606:4700::1111]:443/v1",
        "https://0x.example/",
        "https://1e100.net/",
        "https://example.com/a%20b?c=d#e",
    ],
)
def test_a_public_url_may_be_called(url):
    check_url(url, allow_private=False)


@pytest.mark.parametrize("url", ["http://vllm:8000/v1", "http://127.0.0.1:1/", "http://[::1]/"])
def test_a_private_url_may_be_called_where_that_is_said(url):
    check_url(url, allow_private=True)
    with pytest.raises(ValueError, match="allow_private"):
        check_url(url, allow_private=False)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://bücher.example/", "xn--"),
        ("https://kim@example.com/", "without user"),
        ("https://2130706433/", "an address such as"),
        ("https://example.com./", "single dots"),
        ("https://example.com:99999/", "a port from 1 to 65535"),
        ("ftp://example.com/", "a URL such as"),
        ("https://169.254.169.254/", "metadata services are never called"),
        ("https://[fd00:ec2::23]/", "metadata services are never called"),
        ("http://metadata.tencentyun.com/", "metadata services are never called"),
    ],
)
def test_a_refusal_says_what_was_expected(url, words):
    with pytest.raises(ValueError, match=words):
        check_url(url, allow_private=True)


@pytest.mark.parametrize(
    ("url", "wire", "expected"),
    [
        ("https://api.example.com/v1/chat/completions", "openai", "without /chat/completions"),
        ("https://api.example.com/v1/chat/completions/", "openai", "without /chat/completions"),
        ("https://api.example.com/v1/messages", "anthropic", "without /messages"),
        (
            "https://api.example.com/v1/models/m:generateContent",
            "gemini",
            "without :generateContent",
        ),
        ("https://api.openai.com", "openai", "https://api.openai.com/v1 was expected"),
        ("https://api.anthropic.com/", "anthropic", "https://api.anthropic.com/v1 was expected"),
        (" https://api.example.com/v1", "openai", "a URL without blanks"),
        ("https://api.example.com/v1 ", "openai", "a URL without blanks"),
        ("https://api.example.com/v1\n", "openai", "a URL without blanks"),
        ("https://api.example.com/v1%20/", "openai", "a URL without blanks"),
        ("https://\u00e9.example.com/v1", "openai", "plain ASCII characters"),
        ("https://api.openai.com/v1/v1", "openai", "https://api.openai.com/v1 was expected"),
        ("https://api.openai.com/v1/messages", "openai", "/v1 with wire: anthropic was expected"),
        (
            "https://api.example.com/v1/chat/completions",
            "anthropic",
            "https://api.example.com/v1 with wire: openai was expected",
        ),
        ("https://api.openai.com/v1/chat", "openai", "without /chat"),
        ("https://openrouter.ai/v1", "openai", "https://openrouter.ai/api/v1 was expected"),
        ("https://openrouter.ai/api", "openai", "https://openrouter.ai/api/v1 was expected"),
        ("https://api.groq.com/v1", "openai", "https://api.groq.com/openai/v1 was expected"),
        (
            "https://x.openai.azure.com",
            "openai",
            "https://x.openai.azure.com/openai/v1 was expected",
        ),
        (
            "https://generativelanguage.googleapis.com/v1beta/openai",
            "gemini",
            "/v1beta/openai with wire: openai was expected",
        ),
        (
            "https://generativelanguage.googleapis.com/v1beta",
            "openai",
            "https://generativelanguage.googleapis.com/v1beta/openai was expected",
        ),
        ("https://api.example.com:99999/v1", "openai", "port from 1 to 65535"),
        ("https://api.example.com:abc/v1", "openai", "port from 1 to 65535"),
    ],
)
def test_a_base_url_that_cannot_work_is_refused_in_words(
    url: str, wire: str, expected: str
) -> None:
    with pytest.raises(ValidationError, match=re.escape(expected)):
        ProviderSettings(base_url=url, wire=wire)


@pytest.mark.parametrize(
    ("url", "wire"),
    [
        ("https://generativelanguage.googleapis.com/v1beta/openai", "openai"),
        ("https://generativelanguage.googleapis.com/v1", "gemini"),
        ("https://openrouter.ai/api/v1", "openai"),
        ("https://openrouter.ai/api/v1", "anthropic"),
        ("https://api.anthropic.com/v1", "openai"),
        ("https://x.openai.azure.com/openai/v1", "openai"),
        ("https://gateway.example.com/v1/openai/v1", "openai"),
        ("https://gateway.example.com/chat/v1", "openai"),
    ],
)
def test_a_base_url_that_can_work_is_taken(url: str, wire: str) -> None:
    assert ProviderSettings(base_url=url, wire=wire).base_url == url


@pytest.mark.parametrize("path", ["/chat completions", "/chat\n", "/a?b", "chat"])
def test_a_path_that_cannot_be_called_is_refused(path: str) -> None:
    with pytest.raises(ValidationError):
        ProviderSettings(base_url="https://api.example.com", path=path)


def test_a_path_of_ones_own_needs_none_in_the_base_url() -> None:
    found = ProviderSettings(base_url="https://api.openai.com", path="/v1/{model}/chat")

    assert found.path == "/v1/{model}/chat"

"""Settings that cannot be meant are refused when a process starts, in words."""

import pytest
from pydantic import ValidationError

from consumers.settings import KafkaSettings, OidcSettings, Settings, settings_problems


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_password_that_is_not_sent_may_go_without_tls(mechanism):
    made = KafkaSettings(security="SASL_PLAINTEXT", sasl_mechanism=mechanism)

    assert made.sasl_mechanism == mechanism


def test_a_password_is_not_sent_in_clear(monkeypatch):
    monkeypatch.setenv("TIERLINE_KAFKA__SECURITY", "SASL_PLAINTEXT")
    monkeypatch.setenv("TIERLINE_KAFKA__SASL_MECHANISM", "PLAIN")
    monkeypatch.setenv("TIERLINE_KAFKA__PASSWORD", "secret")
    with pytest.raises(ValidationError) as refused:
        Settings()

    [problem] = settings_problems(refused.value)
    assert problem.startswith("TIERLINE_KAFKA: sasl_mechanism: PLAIN would send the password")
    assert "SASL_SSL" in problem
    assert "secret" not in problem


def test_with_tls_it_is():
    assert KafkaSettings(security="SASL_SSL", sasl_mechanism="PLAIN").security == "SASL_SSL"


@pytest.mark.parametrize(
    ("issuer", "fields"),
    [
        ("https://id.example.com", {}),
        ("http://localhost:8080/realms/one", {}),
        ("http://127.0.0.1:8080", {}),
        ("http://keycloak:8080", {"allow_private": True}),
    ],
)
def test_an_issuer_that_may_be_asked(issuer, fields):
    assert OidcSettings(issuer=issuer, client_id="x", roles={}, **fields).issuer == issuer


@pytest.mark.parametrize(
    ("issuer", "words"),
    [
        ("http://id.example.com", "issuer: https and a public host"),
        ("https://10.0.0.7", "issuer: the address is not public"),
        ("https://169.254.169.254", "issuer: metadata services are never called"),
        ("https://localhost@id.example.com", "issuer: a URL without user"),
    ],
)
def test_an_issuer_that_may_not(issuer, words):
    with pytest.raises(ValidationError, match=words):
        OidcSettings(issuer=issuer, client_id="x", roles={})

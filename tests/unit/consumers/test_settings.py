"""Settings that cannot be meant are refused when a process starts, in words."""

import pytest
from pydantic import ValidationError

from consumers.providers.settings import ProviderSettings, under_names, variable_of
from consumers.settings import KafkaSettings, Settings
from consumers.sign_in_settings import OidcSettings
from consumers.variables import settings_problems, unknown_variables


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


@pytest.mark.parametrize(
    ("mistaken", "nearest"),
    [
        ("TIERLINE_POLCY", "TIERLINE_POLICY"),
        ("TIERLINE_KAFKA_BOOTSTRAP", "TIERLINE_KAFKA__BOOTSTRAP"),
        ("TIERLINE_KAFKA__BOOTSTRAP_SERVERS", "TIERLINE_KAFKA__BOOTSTRAP"),
        ("TIERLINE_HEALTH_PORT", "TIERLINE_HEALTH__PORT"),
        ("TIERLINE_CONSOLE__OIDC__ISUER", "TIERLINE_CONSOLE__OIDC__ISSUER"),
        ("TIERLINE_PROVIDERS__ACME__BASEURL", "TIERLINE_PROVIDERS__ACME__BASE_URL"),
        (
            "TIERLINE_PROVIDERS__ACME__LIMITS__M__CONCURENCY",
            "TIERLINE_PROVIDERS__ACME__LIMITS__M__CONCURRENCY",
        ),
        ("TIERLINE_SOMETHING_ELSE", ""),
    ],
)
def test_a_variable_that_sets_nothing_is_refused_with_the_nearest_that_does(
    monkeypatch, mistaken, nearest
):
    monkeypatch.setenv(mistaken, "8080")
    with pytest.raises(ValidationError) as refused:
        Settings()

    [problem] = settings_problems(refused.value)
    assert problem.startswith(f"{mistaken}: there is no such setting")
    assert nearest in problem


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tierline_kafka__prefix", "staging."),
        ("TIERLINE_PROVIDERS__ACME", "{}"),
        ("TIERLINE_PROVIDERS__ACME__HEADERS__X", "1"),
        ("TIERLINE_INTAKE__KEYS__K1__SECRET", "x"),
        ("TIERLINE_DEBUG", "1"),
        ("TIERLINE_TEST_BROKER", "127.0.0.1:9092"),
        # Set by Kubernetes for a service named `tierline` or `tierline-console`.
        ("TIERLINE_PORT", "tcp://10.0.0.1:80"),
        ("TIERLINE_SERVICE_HOST", "10.0.0.1"),
        ("TIERLINE_CONSOLE_SERVICE_PORT_HTTP", "80"),
        ("TIERLINE_CONSOLE_PORT_80_TCP_ADDR", "10.0.0.1"),
    ],
)
def test_what_is_known_or_set_by_others_is_no_mistake(name, value):
    assert list(unknown_variables({name: value, "PATH": "/bin"}, Settings)) == []


@pytest.mark.parametrize("called", ["OpenAI", "openai", "Azure-EU", "azure.eu"])
def test_a_provider_is_found_whatever_the_case_and_signs_of_its_name(monkeypatch, called):
    monkeypatch.setenv(f"{variable_of(called)}__BASE_URL", "https://llm.example.com/v1")
    found = under_names(Settings().providers, [called])

    assert list(found) == [called]
    assert found[called].base_url == "https://llm.example.com/v1"


def test_a_name_that_is_written_exactly_so_goes_before_one_that_is_alike():
    first, second = (ProviderSettings(base_url=f"https://{at}.example.com") for at in "ab")
    known = {"openai": first, "OpenAI": second, "other": first}

    assert under_names(known, ["OpenAI", "absent"]) == known

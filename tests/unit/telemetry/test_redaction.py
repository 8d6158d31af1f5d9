"""What has the form of a secret or an address is replaced; the rest stays as it is."""

import pytest

from consumers.telemetry.redaction import redact

_SECRETS = {
    "an e-mail address": "jane.doe+shop@mail.example.co.uk",
    "a quoted e-mail address": "<jane_doe@example.com>",
    "an OpenAI key": "sk-proj-abcdefghijklmnopqrstuvwxyz012345",
    "an Anthropic key": "sk-ant-api03-abcdefghijklmnopqrstuvwx",
    "a Stripe key": "sk_live_abcdefghijklmnopqrstuvwx",
    "a Google key": "AIzaSyA1234567890abcdefghijklmnopqrstuvw",
    "an AWS key id": "AKIAIOSFODNN7EXAMPLE",
    "a GitHub token": "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "a fine-grained GitHub token": "github_pat_11ABCDEFG0abcdefghijklmnop",
    "a GitLab token": "glpat-abcdefghijklmnopqrst",
    "a Slack token": "xoxb-123456789012-abcdefghijkl",
    "a Hugging Face token": "hf_abcdefghijklmnopqrstuvwxyz",
    "a JWT": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.s5rGmXW3Fw",
    "a bearer header": "Authorization: Bearer abcdef0123456789abcdef",
    "a basic header": "authorization: basic dXNlcjpwYXNzd29yZA==",
    "a password in a URL": "postgres://admin:hunter22@db.example.com/x",
    "a named password": "password: hunter22",
    "a named key in JSON": '{"api_key": "abcd1234efgh"}',
    "a named password in camel case": "dbPassword: hunter22x",
    "an AWS secret": "aws_secret_access_key=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "a named password in a JSON string": '{\\"password\\":\\"hunter22x\\"}',
    "a private key": "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----",
    "a card": "4111 1111 1111 1111",
    "a card without blanks": "5500005555555559",
    "an IBAN": "DE89 3704 0044 0532 0130 00",
    "an IBAN without blanks": "GB29NWBK60161331926819",
    "a social security number": "078-05-1120",
    "a phone number": "+44 20 7946 0958",
    "an American phone number": "(555) 123-4567",
    "an address of a machine": "10.20.30.40",
    "a long address of a machine": "2001:0db8:85a3:0000:0000:8a2e:0370:7334",
    "a short one": "2001:db8::8a2e:370:7334",
    "a SendGrid key": "SG.abcdefghijklmnopqrst.abcdefghijklmnopqrstuvwxyz012345",
    "an npm token": "npm_abcdefghijklmnopqrstuvwxyz0123456789",
    "a Google access token": "ya29.a0AfH6SMBabcdefghijklmnopqrstuvwxyz",
    "a webhook's secret": "whsec_abcdefghijklmnopqrstuvwxyz012345",
    "a Slack webhook": "https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXX",
    "a password of a database": "DB_PASS=hunter22x",
    "a passphrase in quotes": 'password="correct horse battery staple"',
    "a passphrase in single quotes": "secret: 'correct horse battery staple'",
    "a token header": "Authorization: Token 9944b09199c62bcf9418ad846dd0e4bb",
    "a Slack app token": "xapp-1-A0123456789-abcdef",
    "a DigitalOcean token": "dop_v1_" + "0123456789abcdef" * 4,
    "a password with an at sign in a URL": "postgres://u:p@ssw0rd@host.example/x",
    "a bare AWS secret": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "a German phone number": "030 12345678",
    "a mobile number": "0171/1234567",
    "a British phone number": "020 7946 0958",
}


@pytest.mark.parametrize("secret", _SECRETS.values(), ids=_SECRETS)
def test_a_secret_is_replaced_wherever_it_stands(secret: str) -> None:
    shown = redact(f"before {secret} after")

    assert shown.startswith("before ")
    assert shown.endswith(" after")
    assert "[" in shown
    longest = max(secret.replace("\n", " ").split(), key=len)
    assert longest not in shown


@pytest.mark.parametrize(
    "text",
    [
        "Order AB-1234 arrived on 2026-03-01 at 14:30, 3 of 12 pieces, 19.99 EUR.",
        "The P-200 printer is out of ink; version 4.2.0 of the driver.",
        "risk-averse customers ask for a token of goodwill",
        "It was 12:30:45 when std::vector::size() was called; the tests pass: 12 of 12",
        "Which of 100, 200 or 300 is it?",
    ],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


def test_of_a_long_text_only_the_beginning_stays():
    shown = redact("word " * 10_000 + "jane@example.com")

    assert len(shown) < 20_100
    assert shown.endswith("word [30016 more characters]")


@pytest.mark.parametrize("blank", [" ", ""])
def test_a_secret_at_the_end_of_what_stays_is_not_cut_through(blank):
    token = ".".join(("eyJ" + "a" * 400, "b" * 400, "c" * 400))
    shown = redact("\u4e00" * 19_950 + blank + token)

    assert "eyJ" not in shown


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text", ["a" * 100_000, "1 " * 50_000, "a@" * 50_000, "password " * 10_000, "-eyJ" * 50_000]
)
def test_long_hostile_text_is_read_to_its_end(text: str) -> None:
    assert len(redact(f"{text} jane@example.com")) > 0

"""Every shape in which a request may come, and every reason for which one is refused."""

import codecs
from base64 import b64encode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.kafka import KafkaMessage, to_binary_event, to_structured_event
from cloudevents.core.v03.event import CloudEvent as OldCloudEvent
from cloudevents.core.v1.event import CloudEvent

from schemas.codec import dump_envelope, read_envelope, text_headers
from schemas.errors import ContractError
from schemas.escalation import Assignment
from schemas.intake import MAX_REQUEST_BYTES, read_request, read_request_object
from schemas.reasons import Reason
from schemas.request import Request
from tests.builders import an_assignment

CANARY = "canary-4711"
CHAT = {"messages": [{"role": "user", "content": "hello"}]}
EVENT = {
    "id": "event-1",
    "source": "/shop",
    "type": "llm.request",
    "datacontenttype": "application/json",
    "time": datetime(2026, 3, 1, tzinfo=UTC),
}
#: The attributes of an event in binary mode, and of one in structured mode.
HEADERS = {"ce_specversion": "1.0", "ce_id": "e-1", "ce_source": "/s", "ce_type": "t"}
ATTRIBUTES = {name.removeprefix("ce_"): text for name, text in HEADERS.items()}
BOTH_MODES = pytest.mark.parametrize("mode", [to_binary_event, to_structured_event])
Mode = Callable[[BaseCloudEvent], KafkaMessage]


def read(headers: Mapping[str, str] | None = None, /, **fields: Any) -> Request:
    return read_request(orjson.dumps(fields), headers or {}, fallback_id="fallback-1")


def received(message: KafkaMessage) -> Request:
    headers = text_headers(list(message.headers.items()))
    return read_request(message.value, headers, fallback_id="fallback-1")


def an_event(data: Any, **attributes: Any) -> CloudEvent:
    return CloudEvent({**EVENT, **attributes}, data)


def a_line(**fields: Any) -> dict[str, Any]:
    line = {"custom_id": "line-1", "method": "POST", "url": "/v1/chat/completions", "body": CHAT}
    return {**line, **fields}


# Requests of our own shape


@pytest.mark.parametrize(
    "given",
    [
        pytest.param("hello", id="a prompt"),
        pytest.param(CHAT["messages"], id="messages"),
        pytest.param(CHAT, id="a chat body"),
        pytest.param({**CHAT, "tools": [{"type": "function"}], "n": 1}, id="a body with more"),
        pytest.param(
            [{"role": "user", "content": [{"type": "text", "text": "hello"}]}], id="text parts"
        ),
        pytest.param(
            [{"role": "system", "content": "Be brief."}, *CHAT["messages"]], id="a system prompt"
        ),
    ],
)
def test_an_input_may_have_any_of_these_shapes(given: Any) -> None:
    assert read(input=given).text == "hello"


def test_what_we_do_not_read_of_a_chat_body_is_kept() -> None:
    body = {**CHAT, "tools": [{"type": "function"}], "seed": 7, "n": None}

    assert read(input=body).input.model_dump(exclude_unset=True) == body


def test_a_request_has_sensible_defaults() -> None:
    request = read(input="hello")

    assert (request.id, request.tenant, request.lane) == ("fallback-1", "default", "standard")
    assert (request.task, request.plan, request.custom_id) == (None, None, None)


@pytest.mark.parametrize("missing", [{}, {"id": ""}, {"id": None}])
def test_a_request_without_id_gets_the_one_it_is_known_by(missing: dict[str, Any]) -> None:
    assert read(input="hello", **missing).id == "fallback-1"


def test_fields_that_nobody_knows_are_kept() -> None:
    request = read(input="hello", colour="red", text="not what the user says", messages=[1])

    assert request.model_extra == {
        "colour": "red",
        "text": "not what the user says",
        "messages": [1],
    }
    assert request.text == "hello"


FORGED = {
    "generation": 7,
    "attempt": 2,
    "attempts": [],
    "tier": "premium",
    "model": "sim-large",
    "confidence": 1.0,
    "budget": 10**9,
    "route": {"tier": "premium"},
}


@pytest.mark.parametrize("name", FORGED)
def test_a_field_that_only_stages_set_is_dropped(name: str) -> None:
    assert read(input="hello", **{name: FORGED[name]}) == read(input="hello")


def test_forged_fields_are_dropped_from_every_shape() -> None:
    assert not received(to_binary_event(an_event({"input": "hello", **FORGED}))).model_extra
    assert not received(to_structured_event(an_event({"input": "hello", **FORGED}))).model_extra
    assert not received(to_structured_event(an_event({"input": "hello"}, tier="x"))).model_extra
    assert not read(**a_line(**FORGED)).model_extra


# Lines of an OpenAI Batch input file


def test_a_batch_line_is_a_request() -> None:
    request = read(**a_line())

    assert (request.id, request.custom_id, request.text) == ("line-1", "line-1", "hello")


def test_a_batch_line_says_the_rest_in_its_body() -> None:
    metadata = {"task": "triage", "plan": "free", "tenant": "acme", "lane": "bulk", "shop": "b2"}
    request = read(**a_line(body={**CHAT, "user": "u-1", "metadata": metadata}))

    fields = (request.task, request.plan, request.tenant, request.lane, request.user)
    assert fields == ("triage", "free", "acme", "bulk", "u-1")
    assert request.metadata == metadata


def test_an_id_of_its_own_leaves_the_custom_id_to_the_producer() -> None:
    request = read(**a_line(id="req-1", custom_id="row 1 (ü)"))

    assert (request.id, request.custom_id) == ("req-1", "row 1 (ü)")


def test_method_and_url_of_a_batch_line_may_be_left_out() -> None:
    assert read(custom_id="line-1", body=CHAT).id == "line-1"


@pytest.mark.parametrize(
    "url",
    [
        "/chat/completions",
        "/v1/chat/completions/",
        "/V1/Chat/Completions",
        "v1/chat/completions",
        "//chat/completions",
        "/openai/v1/chat/completions",
        "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21",
        "https://api.openai.com/v1/chat/completions",
        "HTTPS://shop.openai.azure.com/openai/deployments/x/chat/completions?api-version=1#a",
        " /v1/chat/completions ",
        None,
        "",
    ],
)
def test_the_url_of_chat_completions_has_many_spellings(url: str | None) -> None:
    assert read(**a_line(url=url, method="post")).text == "hello"
    assert read(**a_line(url=url, method=None)).text == "hello"


@pytest.mark.parametrize(
    "url",
    [
        "/v1/completions",
        "/v1/responses",
        "/v1/embeddings",
        "/v1/chat/completions/chatcmpl-1",
        "/v1/xchat/completions",
        "/v1/embeddings?next=/chat/completions",
        "/v1/embeddings#/chat/completions",
        ["/v1/chat/completions"],
        17,
    ],
)
def test_no_other_url_passes_for_it(url: Any) -> None:
    with pytest.raises(ContractError) as refused:
        read(**a_line(url=url))
    assert refused.value.reason is Reason.UNSUPPORTED_URL


@pytest.mark.parametrize("custom_id", ["row 1 (ü)", "行-1", "a\nb", "x" * 201, "x" * 512])
def test_any_text_may_be_a_custom_id(custom_id: str) -> None:
    first, again, other = (
        read(**a_line(custom_id=text)) for text in (custom_id, custom_id, custom_id[1:] + "y")
    )

    assert first.custom_id == custom_id
    assert first.id == again.id != other.id


def test_a_custom_id_has_512_characters_at_most() -> None:
    with pytest.raises(ContractError, match="custom_id: text of at most 512 characters"):
        read(**a_line(custom_id="x" * 513))


def test_a_byte_order_mark_before_a_request_is_ignored() -> None:
    value = codecs.BOM_UTF8 + orjson.dumps({"input": "hello"})

    assert read_request(value, {}, fallback_id="fallback-1").text == "hello"


# CloudEvents, as the official SDK writes them


@pytest.mark.parametrize(
    ("content_type", "value"),
    [
        ("Text/Plain; charset=UTF-8", "Wo ist mein Päckchen?".encode()),
        ("TEXT/MARKDOWN", "Wo ist mein Päckchen?".encode()),
        ("text/plain;charset=iso-8859-1", "Wo ist mein Päckchen?".encode("latin-1")),
        ("text/plain; charset=utf-16", "Wo ist mein Päckchen?".encode("utf-16")),
        ("text/plain; charset=UTF-16LE", "Wo ist mein Päckchen?".encode("utf-16-le")),
        ("text/plain; charset=utf-16be", "\ufeffWo ist mein Päckchen?".encode("utf-16-be")),
        ("application/json; charset=utf-16", '"Wo ist mein Päckchen?"'.encode("utf-16")),
        ("application/json; charset=iso-8859-1", orjson.dumps("Wo ist mein Päckchen?")),
        (' text/plain ; format=flowed; Charset="utf-8"', "Wo ist mein Päckchen?".encode()),
        ("text/plain", codecs.BOM_UTF8 + "Wo ist mein Päckchen?".encode()),
        ("Application/JSON; charset=utf-8", orjson.dumps("Wo ist mein Päckchen?")),
        ("application/vnd.shop.question+json", orjson.dumps({"input": "Wo ist mein Päckchen?"})),
        ("text/json", orjson.dumps({"input": "Wo ist mein Päckchen?"})),
    ],
)
def test_media_types_know_no_case_and_have_parameters(content_type: str, value: bytes) -> None:
    headers = {**HEADERS, "content-type": content_type}
    encoded = b64encode(value).decode()
    event = {**ATTRIBUTES, "datacontenttype": content_type, "data_base64": encoded}

    for request in (
        read_request(value, headers, fallback_id="x"),
        read_request(orjson.dumps(event), {}, fallback_id="x"),
    ):
        assert request.text == "Wo ist mein Päckchen?"


@pytest.mark.parametrize("charset", ["utf-8", "iso-8859-1", "utf-16", "utf-16le"])
def test_an_event_in_any_charset_reaches_its_tier_byte_for_byte(charset: str) -> None:
    raw = "Wo ist mein Päckchen?".encode(charset)
    envelope = dump_envelope(an_assignment(), raw)

    assert read_envelope(Assignment, envelope)[1] == raw
    assert orjson.loads(envelope)


@pytest.mark.parametrize(
    ("charset", "why"),
    [
        ("utf-7", "the charset UTF-8, UTF-16 or ISO-8859-1 was expected"),
        ("utf-16", "utf-16le or utf-16be was expected, as there is no byte order mark"),
        ("utf-16le", "byte 4 is not UTF-16LE"),
    ],
)
def test_text_that_cannot_be_read_is_refused_with_the_reason(charset: str, why: str) -> None:
    headers = {**HEADERS, "content-type": f"text/plain; charset={charset}"}
    with pytest.raises(ContractError, match=why):
        read_request(b"hello", headers, fallback_id="x")


@BOTH_MODES
@pytest.mark.parametrize(
    ("attribute", "value", "reason"),
    [
        *((name, None, Reason.MISSING_FIELD) for name in ("id", "source", "type")),
        *((name, "", Reason.MISSING_FIELD) for name in ("id", "source", "type")),
        ("time", "yesterday", Reason.INVALID_FIELD),
        ("time", "2026-03-01", Reason.INVALID_FIELD),
        ("time", "2026-03-01T12:00:00", Reason.INVALID_FIELD),
        ("time", "2026-02-30T12:00:00Z", Reason.INVALID_FIELD),
        ("time", "", Reason.INVALID_FIELD),
    ],
)
def test_what_is_no_event_by_the_specification_is_refused(
    mode: Mode, attribute: str, value: str | None, reason: Reason
) -> None:
    # The SDK refuses to write such an event.
    fields = {**ATTRIBUTES, attribute: value}
    present = {name: text for name, text in fields.items() if text is not None}
    message = KafkaMessage(
        {f"ce_{name}": text.encode() for name, text in present.items()}, None, b'"hello"'
    )
    if mode is to_structured_event:
        message = KafkaMessage({}, None, orjson.dumps({**fields, "data": "hello"}))

    with pytest.raises(ContractError, match=f"{attribute}: ") as refused:
        received(message)
    assert refused.value.reason is reason


@pytest.mark.parametrize(
    "written", ["2026-03-01T12:00:00.123456789+01:00", "2016-12-31t23:59:60z", None]
)
def test_an_event_may_have_any_time_of_rfc_3339_or_none(written: str | None) -> None:
    assert read(**ATTRIBUTES, time=written, data="hello").text == "hello"


def test_a_structured_event_is_one_whatever_headers_stand_beside_it() -> None:
    event = {**ATTRIBUTES, "data": "hello"}
    headers = {
        "content-type": "Application/CloudEvents+JSON; charset=UTF-8",
        "ce_specversion": "1.0",
        "ce_id": "another",
    }
    request = read_request(orjson.dumps(event), headers, fallback_id="x")

    assert (request.id, request.custom_id, request.text) == ("/s^e-1", "e-1", "hello")


def test_bytes_of_a_text_in_a_structured_event_are_text_even_where_they_look_like_json() -> None:
    assert read(**ATTRIBUTES, datacontenttype="Text/Plain", data_base64="MTI=").text == "12"


@BOTH_MODES
@pytest.mark.parametrize("event_id", ["order 17 / 2", "été", "x" * 300])
def test_any_text_may_be_an_events_id(mode: Mode, event_id: str) -> None:
    request = received(mode(an_event({"input": "hello"}, id=event_id)))

    assert request.custom_id == event_id
    assert request.id == received(mode(an_event({"input": "hello"}, id=event_id))).id


@BOTH_MODES
@pytest.mark.parametrize(
    "written",
    [
        "2026-12-31t23:59:59z",
        "2026-12-31T23:59:59.000000001Z",
        "2027-01-01T04:59:59+05:00",
        "2026-12-31T23:59:59-00:00",
    ],
)
def test_times_of_events_have_the_forms_of_rfc_3339(mode: Mode, written: str) -> None:
    event = an_event({"input": "hello", "deadline": "2027-06-01T00:00:00z"}, expirytime=written)

    assert received(mode(event)).deadline == datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)


def test_a_leap_second_is_the_next_minutes_first() -> None:
    for written in ("2016-12-31T23:59:60Z", "2016-12-31T18:59:60-05:00"):
        assert read(input="hello", deadline=written).deadline == datetime(2017, 1, 1, tzinfo=UTC)


@BOTH_MODES
def test_a_cloud_event_carries_a_request(mode: Mode) -> None:
    request = received(mode(an_event({"task": "triage", "input": "hello ü"})))

    assert (request.id, request.task, request.text) == ("/shop^event-1", "triage", "hello ü")
    assert not request.model_extra


@BOTH_MODES
def test_the_requests_own_id_is_stronger_than_the_events(mode: Mode) -> None:
    assert received(mode(an_event({"id": "req-1", "input": "hello"}))).id == "req-1"


@BOTH_MODES
def test_a_correlation_id_is_stronger_than_the_events_id(mode: Mode) -> None:
    event = an_event({"input": "hello"}, correlationid="order-9")

    assert received(mode(event)).id == "order-9"


@BOTH_MODES
def test_two_sources_with_one_id_are_two_requests(mode: Mode) -> None:
    events = [
        an_event({"input": "hello"}, source=source, id=id_)
        for source, id_ in (
            ("/shop", "1"),
            ("/shop/1", "1"),
            ("urn:shop:eu", "1"),
            ("/shop", "2"),
            ("/shop", "1^1"),
            ("/shop^1", "1"),
            ("/shop^1", "1^1"),
            ("/shop^1^1", "1"),
            ("/" + "s" * 300, "1"),
            ("/" + "s" * 300, "2"),
        )
    ]
    requests = [received(mode(event)) for event in events]

    assert len({request.id for request in requests}) == len(events)
    assert requests[0].id == "/shop^1"
    assert [request.custom_id for request in requests] == [event.get_id() for event in events]
    assert received(mode(events[0])).id == requests[0].id


@BOTH_MODES
def test_the_expiry_time_is_the_deadline(mode: Mode) -> None:
    event = an_event({"input": "hello"}, expirytime="2026-03-01T12:00:00Z")

    assert received(mode(event)).deadline == datetime(2026, 3, 1, 12, tzinfo=UTC)


@BOTH_MODES
def test_a_cloud_event_may_carry_a_batch_line(mode: Mode) -> None:
    event = an_event(a_line(), expirytime="2026-03-01T12:00:00Z")
    request = received(mode(event))

    assert (request.id, request.custom_id) == ("/shop^event-1", "line-1")
    assert request.deadline == datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_a_prompt_alone_may_be_an_events_data() -> None:
    assert received(to_structured_event(an_event("hello"))).text == "hello"
    assert received(to_binary_event(an_event(b'"hello"'))).text == "hello"


def test_header_names_may_be_written_in_capitals() -> None:
    message = to_binary_event(an_event({"input": "hello"}))
    shouted = {name.upper(): value for name, value in message.headers.items()}

    assert received(KafkaMessage(shouted, None, message.value)).id == "/shop^event-1"


@BOTH_MODES
def test_an_older_cloud_event_is_refused(mode: Mode) -> None:
    event = OldCloudEvent({**EVENT, "specversion": "0.3"}, {"input": "hello"})

    with pytest.raises(ContractError, match="specversion"):
        received(mode(event))


# What is refused


def body(**fields: Any) -> bytes:
    return orjson.dumps({"input": "hello", **fields})


def parts(*kinds: Any) -> bytes:
    return body(input=[{"role": "user", "content": list(kinds)}])


REFUSED: Mapping[str, tuple[bytes | None, Reason, str]] = {
    "no value": (None, Reason.NULL_VALUE, ""),
    "a byte too many": (b"x" * (MAX_REQUEST_BYTES + 1), Reason.TOO_LARGE, "1048577 bytes"),
    "bytes": (b"\xff\xfe", Reason.NOT_TEXT, ""),
    "words": (CANARY.encode(), Reason.NOT_JSON, ""),
    "deep": (b"[" * 33 + b"]" * 33, Reason.TOO_DEEP, ""),
    "a key twice": (b'{"input":"a","input":"b"}', Reason.DUPLICATE_KEY, ""),
    "NaN": (b'{"input":"a","ambiguity":NaN}', Reason.BAD_NUMBER, ""),
    "nothing said": (b"{}", Reason.MISSING_FIELD, "input:"),
    "no messages named": (body(input={}), Reason.MISSING_FIELD, "input.messages:"),
    "a list": (b"[]", Reason.INVALID_FIELD, "a JSON object"),
    "null": (b"null", Reason.INVALID_FIELD, "a JSON object"),
    "a number": (b"1", Reason.INVALID_FIELD, "a JSON object"),
    "a number as id": (body(id=7), Reason.INVALID_FIELD, "id:"),
    "a long id": (body(id="x" * 201), Reason.INVALID_FIELD, "id:"),
    "a line end in the id": (body(id="a\n"), Reason.INVALID_FIELD, "id:"),
    "a space in the id": (body(id=f"a {CANARY}"), Reason.INVALID_FIELD, "id:"),
    "a look-alike tenant": (body(tenant="\u0430cme"), Reason.INVALID_FIELD, "tenant:"),
    "a task in capitals": (body(task="Canary-4711"), Reason.INVALID_FIELD, "task:"),
    "a lane of their own": (body(lane=CANARY), Reason.INVALID_FIELD, "lane:"),
    "a long user": (body(user=CANARY * 30), Reason.INVALID_FIELD, "user:"),
    "a number as text": (body(ambiguity="0.5"), Reason.INVALID_FIELD, "ambiguity:"),
    "more than certain": (body(ambiguity=1.5), Reason.INVALID_FIELD, "ambiguity:"),
    "a truth as number": (body(complexity=True), Reason.INVALID_FIELD, "complexity:"),
    "no such complexity": (body(complexity=6), Reason.INVALID_FIELD, "complexity:"),
    "no such format": (body(output_format=CANARY), Reason.INVALID_FIELD, "output_format"),
    "no such date": (body(deadline=CANARY), Reason.INVALID_FIELD, "deadline:"),
    "no such day": (body(deadline="2026-02-30T00:00:00Z"), Reason.INVALID_FIELD, "deadline:"),
    "a time of nowhere": (body(deadline="2026-03-01T12:00"), Reason.INVALID_FIELD, "deadline:"),
    "seconds since 1970": (body(deadline=1_772_000_000), Reason.INVALID_FIELD, "deadline:"),
    "a list as context": (body(context=[CANARY]), Reason.INVALID_FIELD, "context:"),
    "numbers as context": (body(context={"user": [1]}), Reason.INVALID_FIELD, "context.user:"),
    "a list as metadata": (body(metadata=[CANARY]), Reason.INVALID_FIELD, "metadata:"),
    "a number as input": (body(input=5), Reason.INVALID_FIELD, "input:"),
    "no messages": (body(input=[]), Reason.INVALID_FIELD, "input.messages:"),
    "prompts": (body(input=[CANARY]), Reason.INVALID_FIELD, "input.messages.0:"),
    "a strange role": (
        body(input=[*CHAT["messages"], {"role": CANARY, "content": "a"}]),
        Reason.INVALID_FIELD,
        "input.messages.1.role:",
    ),
    "a number as output format": (body(output_format=5), Reason.INVALID_FIELD, "output_format: "),
    "0 as id": (body(id=0), Reason.INVALID_FIELD, "id:"),
    "false as id": (body(id=False), Reason.INVALID_FIELD, "id:"),
    "an empty list as id": (body(id=[]), Reason.INVALID_FIELD, "id:"),
    "version 0": (body(version=0), Reason.INVALID_FIELD, "version:"),
    "version 1.0": (body(version=1.0), Reason.INVALID_FIELD, "version:"),
    "true as version": (body(version=True), Reason.INVALID_FIELD, "version:"),
    "version as text": (body(version="2"), Reason.INVALID_FIELD, "version:"),
    "version 2": (body(version=2, input={"new": 1}), Reason.NEWER_VERSION, "version:"),
    "blanks": (body(input=" \n\t\u00a0"), Reason.EMPTY_INPUT, "input:"),
    "no text": (body(input=[{"role": "user"}]), Reason.EMPTY_INPUT, "input:"),
    "an empty part": (parts({"type": "text", "text": ""}), Reason.EMPTY_INPUT, "input:"),
    "an image": (
        parts({"type": "text", "text": "a"}, {"type": "image_url", "image_url": CANARY}),
        Reason.UNSUPPORTED_PART,
        "input.messages.0.content:",
    ),
    "a part that is text": (parts(CANARY), Reason.UNSUPPORTED_PART, "input.messages.0.content:"),
    "two choices": (body(input={**CHAT, "n": 2}), Reason.UNSUPPORTED_CHOICES, "input.n:"),
    "choices as text": (body(input={**CHAT, "n": "1"}), Reason.UNSUPPORTED_CHOICES, "input.n:"),
    "another endpoint": (
        orjson.dumps(a_line(url=f"/v1/{CANARY}")),
        Reason.UNSUPPORTED_URL,
        "POST /v1/chat/completions",
    ),
    "another method": (orjson.dumps(a_line(method="GET")), Reason.UNSUPPORTED_URL, "POST"),
    "a body of text": (orjson.dumps(a_line(body=CANARY)), Reason.INVALID_FIELD, "body:"),
    "a number as custom id": (
        orjson.dumps(a_line(custom_id=5)),
        Reason.INVALID_FIELD,
        "custom_id:",
    ),
    "a line without messages": (
        orjson.dumps(a_line(body={"model": CANARY})),
        Reason.MISSING_FIELD,
        "input.messages:",
    ),
    "a line's lane": (
        orjson.dumps(a_line(body={**CHAT, "metadata": {"lane": CANARY}})),
        Reason.INVALID_FIELD,
        "lane:",
    ),
    "an event's expiry": (
        to_structured_event(an_event({"input": "hello"}, expirytime=CANARY)).value,
        Reason.INVALID_FIELD,
        "deadline:",
    ),
    "an event without a request": (
        to_structured_event(an_event({"shop": CANARY})).value,
        Reason.MISSING_FIELD,
        "input:",
    ),
    "an event with a list": (b'{"specversion":"1.0","data":[]}', Reason.INVALID_FIELD, ""),
    "an event from the future": (
        b'{"specversion":"2.0","data":{"input":"a"}}',
        Reason.NEWER_VERSION,
        "specversion:",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_names_reason_and_field_and_never_the_value(name: str) -> None:
    value, reason, where = REFUSED[name]
    with pytest.raises(ContractError) as raised:
        read_request(value, {}, fallback_id="fallback-1")

    assert raised.value.reason is reason, raised.value.detail
    assert raised.value.detail.startswith(where)
    assert "\n" not in raised.value.detail
    assert CANARY not in raised.value.detail
    assert CANARY not in str(raised.value)


def test_a_request_of_exactly_the_limit_is_read() -> None:
    value = body(input="x" * (MAX_REQUEST_BYTES - len(body(input=""))))

    assert len(value) == MAX_REQUEST_BYTES
    assert read_request(value, {}, fallback_id="fallback-1").text.startswith("xxx")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_refused_from_parsed_json_too(number: float) -> None:
    with pytest.raises(ContractError, match="ambiguity"):
        read_request_object({"input": "hello", "ambiguity": number}, {})


def test_a_cloudevent_may_be_text_or_bytes() -> None:
    """Binary mode with a text type, and structured mode with its data as base64."""
    headers = {**HEADERS, "content-type": "text/plain"}
    assert read_request(b"hello", headers, fallback_id="f").text == "hello"

    for data in (b"hello", b'{"input": "hello"}'):
        request = read(**ATTRIBUTES, data_base64=b64encode(data).decode())
        assert (request.id, request.text) == ("/s^e-1", "hello")
    with pytest.raises(ContractError, match="base64 was expected"):
        read(**ATTRIBUTES, data_base64="?")


@pytest.mark.parametrize(("body", "event"), [(12, 13), (13, 12)])
def test_the_earlier_of_two_deadlines_counts(body: int, event: int) -> None:
    headers = {**HEADERS, "ce_expirytime": f"2026-03-01T{event}:00:00Z"}
    value = orjson.dumps({"input": "hello", "deadline": f"2026-03-01T{body}:00:00Z"})

    request = read_request(value, headers, fallback_id="f")

    assert request.deadline == datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("nothing", ["\u200b", "\ufeff \u2060", "\u00ad\n"])
def test_what_nobody_can_see_is_no_input(nothing: str) -> None:
    with pytest.raises(ContractError) as caught:
        read_request(orjson.dumps({"input": nothing}), {}, fallback_id="f")

    assert caught.value.reason is Reason.EMPTY_INPUT

"""Intake: every shape in which a producer may send a request becomes one Request."""

import base64
import codecs
import hashlib
import re
import string
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from schemas.base import is_identifier, read_instant
from schemas.codec import Headers, text_headers
from schemas.errors import ContractError
from schemas.json_text import parse_json
from schemas.reasons import Reason
from schemas.request import Request

__all__ = [
    "MAX_CUSTOM_ID",
    "MAX_REQUEST_BYTES",
    "claims_of",
    "custom_id_of",
    "id_for",
    "read_raw_request",
    "read_request",
    "read_request_object",
]

MAX_REQUEST_BYTES = 1 << 20
#: Characters of a `custom_id`; OpenAI states no limit.
MAX_CUSTOM_ID = 512

#: Invisible characters: white space, and those without width.
_BLANK = string.whitespace + "\u00a0\u00ad\u200b\u200c\u200d\u2028\u2029\u2060\u3000\ufeff"
_BATCH_URL = "/v1/chat/completions"
_LONGEST_URL = 2_000
_CHARSET = re.compile(r"(?:^|;)\s*charset\s*=\s*\"?([a-z0-9_.:-]+)")
#: The charsets that are read, by their names.
_CHARSETS: Mapping[str, str] = {
    **dict.fromkeys(("", "utf-8", "utf8", "us-ascii", "ascii"), "utf-8"),
    **dict.fromkeys(("iso-8859-1", "latin1"), "iso-8859-1"),
    **{name: name for name in ("utf-16", "utf-16le", "utf-16be")},
}
_BOMS_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
#: An instant as RFC 3339 writes it.
_RFC_3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII
)
#: Fields of ours that a Batch line can carry in its body's `metadata`, where OpenAI allows strings.
_BATCH_METADATA = ("task", "plan", "tenant", "workflow", "conversation_id", "lane", "blast_radius")
#: Values that mean no id. Any other value that is no id is a mistake.
_NO_ID = (None, "")
#: Fields that only stages may set: a producer's are dropped.
_OURS = frozenset(
    ("generation", "attempt", "attempts", "tier", "model", "confidence", "budget", "route")
)


#: What was expected, by pydantic's name for a mistake whose own message is for programmers.
_EXPECTED: Mapping[str, str] = {
    "missing": "is required and missing",
    "model_type": "an object with the fields of the contract was expected",
    "model_attributes_type": "an object with the fields of the contract was expected",
    "dict_type": "an object was expected",
    "list_type": "a list was expected",
    "string_type": "text was expected",
    "float_type": "a number was expected",
    "int_type": "a whole number was expected",
}


_AN_INPUT = "a prompt, messages or a chat body was expected"
_AN_ID = "1 to 200 printable ASCII characters without blanks were expected"
#: The same for single fields; these come first.
_EXPECTED_IN: Mapping[tuple[str, str], str] = {
    ("input", "model_type"): _AN_INPUT,
    ("task", "string_pattern_mismatch"): "a name of a-z, 0-9 and _ was expected",
    **{(name, "string_pattern_mismatch"): _AN_ID for name in ("id", "tenant", "conversation_id")},
}


def read_raw_request(value: bytes | None, headers: Headers, *, fallback_id: str) -> Request:
    """As `read_request`, with a record's headers as they are. Raises ContractError."""
    return read_request(value, text_headers(headers), fallback_id=fallback_id)


def read_request(value: bytes | None, headers: Mapping[str, str], *, fallback_id: str) -> Request:
    """Read an intake record: a request, one OpenAI Batch line, or a CloudEvent in either mode.

    `headers` are those with readable text; `fallback_id` is the id of a request without one.
    CloudEvents follow the Kafka protocol binding 1.0.2. Raises ContractError.
    """
    if value is None:
        raise ContractError(Reason.NULL_VALUE, "a request was expected")
    if len(value) > MAX_REQUEST_BYTES:
        detail = f"{len(value)} bytes; the limit is {MAX_REQUEST_BYTES}"
        raise ContractError(Reason.TOO_LARGE, detail)

    value = value.removeprefix(codecs.BOM_UTF8)  # RFC 8259, section 8.1: it may be ignored
    content_types = [text for name, text in headers.items() if name.lower() == "content-type"]
    kind, charset = _media_type(content_types[0] if content_types else None)
    if kind.startswith("application/cloudevents"):  # structured mode: everything is in the value
        headers = {name: text for name, text in headers.items() if not name.startswith("ce_")}
    elif "ce_specversion" in headers and _is_text(kind):
        return read_request_object(_text(value, charset), headers, fallback_id=fallback_id)
    return read_request_object(_json(value, charset), headers, fallback_id=fallback_id)


def id_for(text: str) -> str:
    """The id of a request that its producer names by any text: that text, or a hash of it."""
    if is_identifier(text):
        return text
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16)
    return f"id-{digest.hexdigest()}"


def read_request_object(
    body: Any, headers: Mapping[str, str], *, fallback_id: str = "request"
) -> Request:
    """Read a request that is parsed JSON already. Raises ContractError."""
    fields = claims_of(body, headers)
    if fields.get("id") in _NO_ID:
        fields = {**fields, "id": fallback_id}
    _refuse_unsupported(fields)
    try:
        if not _OURS.isdisjoint(fields):
            fields = {name: field for name, field in fields.items() if name not in _OURS}
        request = Request.model_validate(fields)
    except ValidationError as error:
        raise _explained(error, fields) from None

    if not request.text.strip(_BLANK):
        raise ContractError(Reason.EMPTY_INPUT, "input: some text was expected")
    return request


def claims_of(body: Any, headers: Mapping[str, str]) -> dict[str, Any]:
    """The fields of a request that is parsed JSON already, unchecked.

    Raises ContractError where it has none of the three shapes.
    """
    fields = _unwrap(body, headers)
    return _from_batch_line(fields) if "custom_id" in fields and "body" in fields else fields


def _unwrap(body: Any, headers: Mapping[str, str]) -> dict[str, Any]:
    """The request's fields, with those of its CloudEvent."""
    attributes: Mapping[str, Any] = {}
    if "ce_specversion" in headers:
        attributes = {name[3:]: text for name, text in headers.items() if name.startswith("ce_")}
    elif isinstance(body, dict) and "specversion" in body:
        if "data" in body:
            attributes, body = body, body["data"]
        elif "data_base64" in body:
            kind, charset = _media_type(body.get("datacontenttype"))
            attributes, body = body, _from_base64(body["data_base64"], kind, charset)
    if isinstance(body, str):
        body = {"input": body}
    if not isinstance(body, dict):
        raise ContractError(Reason.INVALID_FIELD, "a JSON object was expected")
    if not attributes:
        return body

    _check_event(attributes)
    event_fields = {**_identity(attributes, body), "deadline": attributes.get("expirytime")}
    fields = {**{name: field for name, field in event_fields.items() if field is not None}, **body}
    if "deadline" in body and "expirytime" in attributes:
        fields["deadline"] = _earlier(body["deadline"], attributes["expirytime"])
    return fields


def _check_event(attributes: Mapping[str, Any]) -> None:
    """Raise ContractError for what is no CloudEvent by its specification (1.0.2)."""
    if str(attributes["specversion"]) != "1.0":
        raise ContractError(Reason.NEWER_VERSION, "specversion: CloudEvents 1.0 was expected")
    for name in ("id", "source", "type"):
        value = attributes.get(name)
        if not isinstance(value, str) or not value:
            reason = Reason.MISSING_FIELD if value in _NO_ID else Reason.INVALID_FIELD
            raise ContractError(reason, f"{name}: every CloudEvent has one, a text")
    time = attributes.get("time")
    try:
        is_time = time is None or bool(_RFC_3339.fullmatch(time) and read_instant(time))
    except (OverflowError, TypeError, ValueError):  # no text, or no day of any month
        is_time = False
    if not is_time:
        detail = "time: an RFC 3339 time was expected, for example 2026-01-31T12:00:00Z"
        raise ContractError(Reason.INVALID_FIELD, detail)


def _identity(attributes: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """The request's id from a CloudEvent whose data has none: `SOURCE^ID`, or its correlation id.

    Source and id together tell events apart (CloudEvents 1.0, "id"). No URI has a ^ in it.
    """
    correlation, source = attributes.get("correlationid"), attributes["source"]
    event_id = correlation or attributes["id"]
    if body.get("id") not in _NO_ID or not isinstance(event_id, str):
        return {"id": event_id}
    named = event_id
    if not correlation:
        length = f"{len(source)} " if "^" in source else ""
        named = f"{length}{source}^{event_id}"
    identity = {"id": id_for(named)}
    if identity["id"] != event_id and "body" not in body:  # a Batch line has its own `custom_id`
        identity["custom_id"] = event_id
    return identity


def _earlier(first: Any, second: Any) -> Any:
    """The earlier of two instants; the first where they cannot be compared: its check follows."""
    try:
        instants = {text: read_instant(text) for text in (first, second)}
        return min(instants, key=lambda text: instants[text])
    except (AttributeError, OverflowError, TypeError, ValueError):
        return first


def _media_type(content_type: Any) -> tuple[str, str]:
    """A content type in lower case without its parameters, and its charset (RFC 9110, 8.3.1)."""
    text = content_type.lower() if isinstance(content_type, str) else ""
    kind, _, parameters = text.partition(";")
    charset = _CHARSET.search(parameters)
    return kind.strip(), charset[1] if charset else ""


def _is_text(kind: str) -> bool:
    return kind.startswith("text/") and not (kind == "text/json" or kind.endswith("+json"))


def _from_base64(data: Any, kind: str, charset: str) -> Any:
    """The bytes in a structured CloudEvent, as JSON or else text. Raises ContractError."""
    try:
        raw = base64.b64decode(data, validate=True)
    except (TypeError, ValueError):
        raise ContractError(Reason.INVALID_FIELD, "data_base64: base64 was expected") from None
    if _is_text(kind):
        return _text(raw, charset)
    try:
        return _json(raw.removeprefix(codecs.BOM_UTF8), charset)
    except ContractError as error:
        if error.reason is not Reason.NOT_JSON:
            raise
        return _text(raw, charset)


def _json(value: bytes, charset: str) -> Any:
    """JSON is UTF-8, whatever charset is named beside it, unless that is UTF-16."""
    return parse_json(_text(value, charset).encode() if charset.startswith("utf-16") else value)


def _text(value: bytes, charset: str) -> str:
    codec = _CHARSETS.get(charset)
    if codec is None:
        detail = "content-type: the charset UTF-8, UTF-16 or ISO-8859-1 was expected"
        raise ContractError(Reason.NOT_TEXT, detail)
    if codec == "utf-16" and not value.startswith(_BOMS_UTF16):
        detail = "content-type: utf-16le or utf-16be was expected, as there is no byte order mark"
        raise ContractError(Reason.NOT_TEXT, detail)
    try:
        return value.decode(codec).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        detail = f"byte {error.start} is not {codec.upper()}"
        raise ContractError(Reason.NOT_TEXT, detail) from None


def _from_batch_line(line: dict[str, Any]) -> dict[str, Any]:
    """A line of an OpenAI Batch input file: `custom_id, method, url, body`."""
    method, url = line.get("method") or "POST", line.get("url") or _BATCH_URL
    is_post = isinstance(method, str) and method.strip().upper() == "POST"
    if not is_post or not isinstance(url, str) or not _is_chat_url(url):
        raise ContractError(Reason.UNSUPPORTED_URL, f"POST {_BATCH_URL} was expected")
    body = line["body"]
    if not isinstance(body, dict):
        raise ContractError(Reason.INVALID_FIELD, "body: a chat body was expected")

    custom_id = custom_id_of(line)
    given = body.get("metadata")
    metadata = given if isinstance(given, dict) else {}
    fields = {name: metadata[name] for name in _BATCH_METADATA if name in metadata}
    if isinstance(body.get("user"), str):
        fields["user"] = body["user"]
    if "deadline" in line:  # of the CloudEvent around the line
        fields["deadline"] = line["deadline"]
    named = id_for(custom_id) if custom_id else custom_id
    return {
        **fields,
        "id": named if line.get("id") in _NO_ID else line["id"],
        "custom_id": custom_id,
        "input": body,
        "metadata": metadata,
    }


def custom_id_of(line: Mapping[str, Any]) -> str:
    """The `custom_id` of a line of a Batch file. Raises ContractError."""
    custom_id = line["custom_id"]
    if isinstance(custom_id, str) and len(custom_id) <= MAX_CUSTOM_ID:
        return custom_id
    detail = f"text of at most {MAX_CUSTOM_ID} characters was expected: OpenAI allows text alone"
    raise ContractError(Reason.INVALID_FIELD, f"custom_id: {detail}")


def _is_chat_url(url: str) -> bool:
    """True for the url of chat completions, in any of its forms.

    Azure's has no version, or a deployment; others have a gateway's prefix, a host or a query.
    """
    text = url.strip()
    if len(url) > _LONGEST_URL or any(map(str.isspace, text)):
        return False
    address = text.partition("?")[0].partition("#")[0].lower()
    for scheme in ("http://", "https://"):
        if address.startswith(scheme):
            address = "/" + address.removeprefix(scheme).partition("/")[2]
    return f"/{address}".rstrip("/").endswith("/chat/completions")


def _refuse_unsupported(fields: dict[str, Any]) -> None:
    version = fields.get("version", 1)
    if type(version) is not int:
        raise ContractError(Reason.INVALID_FIELD, "version: a whole number was expected")
    if version > 1:
        raise ContractError(Reason.NEWER_VERSION, "version: 1 is the newest this release reads")
    body = fields.get("input")
    if not isinstance(body, dict):
        messages = body
    else:
        messages = body.get("messages")
        if body.get("n") not in (None, 1):
            raise ContractError(Reason.UNSUPPORTED_CHOICES, "input.n: 1 was expected")
    for number, message in enumerate(messages if isinstance(messages, list) else ()):
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            if not isinstance(part, dict) or part.get("type") != "text":
                where = f"input.messages.{number}.content"
                raise ContractError(Reason.UNSUPPORTED_PART, f"{where}: a text part was expected")


def _explained(error: ValidationError, fields: dict[str, Any]) -> ContractError:
    """The first mistake, named by its field and never by its value."""
    problem = error.errors(include_input=False, include_url=False, include_context=False)[0]
    # pydantic's path also names the member of a union that it tried.
    steps = (str(step) for step in problem["loc"])
    where = ".".join(step for step in steps if step.isidentifier() or step.isdigit()) or "request"
    # For a mapping pydantic's path names keys of the value: only our own fields are repeated.
    where = where if problem["loc"][:1] and problem["loc"][0] in Request.model_fields else "request"
    missing = problem["type"] == "missing" and "input" not in fields
    reason = Reason.MISSING_FIELD if problem["type"] == "missing" else Reason.INVALID_FIELD
    if missing:
        return ContractError(reason, f"input: {_AN_INPUT}")
    kind, message = problem["type"], problem["msg"].removeprefix("Value error, ")
    expected = _EXPECTED_IN.get((where, kind)) or _EXPECTED.get(kind, message)
    return ContractError(reason, f"{where}: {expected}")

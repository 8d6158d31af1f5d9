"""The JSON Schemas that a request brings: the format of its answer, and its tools' parameters."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from router.json_schemas.cost import MAX_BYTES
from router.json_schemas.validator import (
    SchemaError,
    UnusableSchemaError,
    Validator,
    compile_schema,
    compile_together,
)
from schemas.errors import ContractError
from schemas.reasons import Reason
from schemas.request import Request

__all__ = ["check_schemas", "compiled", "format_of", "tool_validators"]

#: All schemas of one request together: they are compiled one after the other.
_MOST_BYTES = 2 * MAX_BYTES
_MOST_TOOLS = 128


def check_schemas(request: Request) -> None:
    """Refuse a request whose schemas cost more than they may. Raises ContractError."""
    extra = request.input.model_extra
    if request.output_format is None and not extra:
        return

    output_format = format_of(request)
    size = len(compiled(output_format)[0]) if isinstance(output_format, dict) else 0
    schemas = _schemas(request)
    size += sum(len(schema) for schema in schemas if schema is not None)
    if len(schemas) > _MOST_TOOLS:
        detail = f"input.tools: more than {_MOST_TOOLS}"
        raise ContractError(Reason.UNSUPPORTED_SCHEMA, detail)
    if size > _MOST_BYTES:
        detail = f"input.tools: its schemas have more than {_MOST_BYTES} bytes together"
        raise ContractError(Reason.UNSUPPORTED_SCHEMA, detail)
    try:
        compile_together(schemas)
    except SchemaError as error:
        raise ContractError(Reason.UNSUPPORTED_SCHEMA, f"input.tools: {error}") from None


def format_of(request: Request) -> str | dict[str, Any] | None:
    """The format that a request asks for: a name of ours, a schema, or None."""
    if request.output_format:
        return request.output_format
    match (request.input.model_extra or {}).get("response_format"):
        case {"type": "text"}:
            return "text"
        case {"type": "json_object"}:
            return "json"
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            return schema
        case _:
            return None


def compiled(schema: Mapping[str, Any]) -> tuple[bytes, Validator]:
    """A producer's format as bytes and compiled. Raises ContractError."""
    written = _bytes(schema)
    try:
        return written, compile_schema(written, is_ours=False)
    except UnusableSchemaError:
        detail = "output_format: a self-contained JSON Schema was expected"
        raise ContractError(Reason.INVALID_FIELD, detail) from None
    except SchemaError as error:
        raise ContractError(Reason.UNSUPPORTED_SCHEMA, f"output_format: {error}") from None


def tool_validators(request: Request) -> Mapping[str, Validator | None]:
    """The tools the producer offers by name; None for one whose schema cannot be used.

    For a request whose schemas have been checked.
    """
    try:
        validators = compile_together(_schemas(request))
    except SchemaError:
        return {name: None for name, _ in _tools(request)}
    return dict(zip((name for name, _ in _tools(request)), validators, strict=True))


def _schemas(request: Request) -> tuple[bytes | None, ...]:
    schemas = (parameters for _, parameters in _tools(request))
    return tuple(_bytes(schema) if isinstance(schema, dict) else None for schema in schemas)


def _tools(request: Request) -> Iterator[tuple[str, Any]]:
    extra = request.input.model_extra or {}
    for name in ("tools", "functions"):
        offered = extra.get(name)
        for tool in offered if isinstance(offered, list) else ():
            function = tool.get("function") if name == "tools" and isinstance(tool, dict) else tool
            if isinstance(function, dict):
                yield str(function.get("name")), function.get("parameters")


def _bytes(schema: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(schema)
    except TypeError:  # an integer beyond 64 bits, which our own reader lets through nowhere
        raise ContractError(Reason.INVALID_FIELD, "a JSON Schema was expected") from None

"""The schemas of one request: what its tools may be together."""

from typing import Any

import pytest

from router.json_schemas.validator import forget_schemas
from router.request.request_schemas import check_schemas, tool_validators
from schemas.errors import ContractError
from schemas.request import Request


@pytest.fixture(autouse=True)
def _anew():
    forget_schemas()


def asking(*parameters: Any) -> Request:
    tools = [
        {"type": "function", "function": {"name": f"f{no}", "parameters": schema}}
        for no, schema in enumerate(parameters)
    ]
    chat = {"messages": [{"role": "user", "content": "Hello"}], "tools": tools}
    return Request.model_validate({"input": chat})


def ordinary(no: int) -> dict[str, Any]:
    """A tool with ten parameters, one of them of a pattern."""
    fields: dict[str, Any] = {f"p{no}_{field}": {"type": "string"} for field in range(9)}
    return {"type": "object", "properties": {**fields, "code": {"pattern": "^[A-Z]{2}-[0-9]{4}$"}}}


def wide(no: int) -> dict[str, Any]:
    """Within the bounds of one schema, and as dear as one may be."""
    return {
        "properties": {
            f"p{field_no}": {"pattern": rf"[\p{{L}}\p{{N}}]{{1,4}}{no}"} for field_no in range(8)
        }
    }


def unusable(no: int) -> dict[str, Any]:
    return {**wide(no), "type": ["no such type"]}


def test_a_hundred_ordinary_tools_are_taken() -> None:
    request = asking(*map(ordinary, range(100)))

    check_schemas(request)

    assert all(tool_validators(request).values())


@pytest.mark.parametrize("hostile", [wide, unusable])
def test_tools_that_are_dear_together_are_refused(hostile: Any) -> None:
    check_schemas(asking(*map(hostile, range(2))))

    with pytest.raises(ContractError, match=r"input\.tools: tool 3: with those before it"):
        check_schemas(asking(*map(hostile, range(3))))


def test_a_tool_without_a_usable_schema_is_offered_all_the_same() -> None:
    request = asking({"type": ["no such type"]}, ordinary(0), None)

    check_schemas(request)

    kinds = {name: validator is not None for name, validator in tool_validators(request).items()}
    assert kinds == {"f0": False, "f1": True, "f2": False}

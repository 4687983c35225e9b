"""Whether an answer is what the Engine API's specification says: a checker of the part of Swagger 2.0 that it uses.

Go's servers write null for an empty list or map and for what is not there; the specification rarely says so. Such a
null is let pass, one in place of a number, a string or a flag only where it is allowed.
"""

import functools
import json
import re
from pathlib import Path
from typing import Any

_SCHEMAS = Path(__file__).parent / "engine_responses.json"
_TYPES = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list, "object": dict}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")


@functools.cache
def _document() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(_SCHEMAS.read_text())
    return document


def answers(operation: str) -> dict[str, Any]:
    """The schemas of an operation's answers by status; None for one without a body."""
    found: dict[str, Any] = _document()["answers"][operation]
    return found


def wrong(value: Any, schema: dict[str, Any], where: str = "answer") -> list[str]:
    """What is not as the schema says, one line each."""
    if "$ref" in schema:
        nullable = schema.get("x-nullable", False)
        return wrong(
            value, _document()["definitions"][schema["$ref"]] | ({"x-nullable": True} if nullable else {}), where
        )
    if "allOf" in schema:
        if isinstance(value, dict):
            return _check_object(value, _merged(schema), where)
        return [line for part in schema["allOf"] for line in wrong(value, part, where)]
    kind = schema.get("type", "object" if "properties" in schema else None)
    if value is None:
        allowed = schema.get("x-nullable") or kind in (None, "array", "object")
        return [] if allowed else [f"{where}: null, not a {kind}"]
    if kind is None:
        return []
    if not isinstance(value, _TYPES[kind]) or (kind in ("integer", "number") and isinstance(value, bool)):
        return [f"{where}: {value!r} is no {kind}"]
    if kind == "array":
        items = schema.get("items", {})
        return [line for n, item in enumerate(value) for line in wrong(item, items, f"{where}[{n}]")]
    if kind == "object":
        return _check_object(value, schema, where)
    return _check_scalar(value, schema, where)


def _check_scalar(value: Any, schema: dict[str, Any], where: str) -> list[str]:
    if "enum" in schema and value not in schema["enum"]:
        return [f"{where}: {value!r} is none of {schema['enum']}"]
    if schema.get("format") in ("dateTime", "date-time") and isinstance(value, str) and value:
        return [] if _TIME.fullmatch(value) else [f"{where}: {value!r} is no time"]
    if not isinstance(value, str):
        if "minimum" in schema and value < schema["minimum"]:
            return [f"{where}: {value} is less than {schema['minimum']}"]
        if "maximum" in schema and value > schema["maximum"]:
            return [f"{where}: {value} is more than {schema['maximum']}"]
    return []


def _check_object(value: dict[str, Any], schema: dict[str, Any], where: str) -> list[str]:
    properties = schema.get("properties", {})
    more = schema.get("additionalProperties")
    found = [f"{where}: {name} is missing" for name in schema.get("required", ()) if name not in value]
    for name, member in value.items():
        if name in properties:
            found += wrong(member, properties[name], f"{where}.{name}")
        elif more is not None:
            found += wrong(member, more, f"{where}.{name}")
        elif properties:
            found.append(f"{where}.{name} is not in the specification")
    return found


def _merged(schema: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = dict(schema.get("properties", {}))
    required: list[str] = list(schema.get("required", ()))
    for part in schema["allOf"]:
        if "$ref" in part:
            part = _document()["definitions"][part["$ref"]]
        if "allOf" in part:
            part = _merged(part)
        properties |= part.get("properties", {})
        required += part.get("required", ())
    return {"type": "object", "properties": properties, "required": required}

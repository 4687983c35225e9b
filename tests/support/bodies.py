"""Bodies of requests as a hypothesis strategy, made from the API's own schemas: mostly of the right shape, with values
from the edges, and here and there one of another type."""

import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

_SCHEMA = Path(__file__).parent / "container_create.json"
_DEPTH_MAX = 6

_NUMBERS = st.sampled_from(
    [0, 1, -1, 2, 7, 1000, 65536, 2**31, 2**32, 2**63 - 1, 2**63, -(2**63) - 1, 10**400, 0.5, 1e308]
)
_WORDS = """
    a 0 -1 1 true none host bridge container:nosuch 10m / /tmp .. ../../etc /proc/self/exe a=b = a:b:c 80/tcp 0-9/udp
    %s {{.}} unix://[ udp://[::1 tcp://a:99999 a{99999999999} 1.2.3.4 ::1 fe80::1%x 1.2.3.4/99 json-file syslog gelf
    fluentd local seccomp={ label=a:b:c apparmor=x no-new-privileges vol:/x:ro always SIGKILL 0-1000 c *:* rwm /dev/null
    /dev/null:/dev/x:rwm CAP_SYS_ADMIN all nofile bind tmpfs volume private busybox shareable
"""
_TEXTS = st.one_of(
    st.sampled_from(_WORDS.split()),
    st.sampled_from(["", "a\0b", "a\nb", "é\u202e", "\ud800", "9" * 400, "x" * 5000, "[" * 3000, "(" * 300]),
    st.text(max_size=6),
)
_ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), _NUMBERS, _TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(_TEXTS, inner, max_size=2)),
    max_leaves=4,
)


def container_creates() -> st.SearchStrategy[dict[str, Any]]:
    """What could be posted to /containers/create."""
    document = json.loads(_SCHEMA.read_text())
    return _of(document["body"], document["definitions"], 0)


def _of(schema: dict[str, Any], definitions: dict[str, Any], depth: int) -> st.SearchStrategy[Any]:
    if "$ref" in schema:
        return _of(definitions[schema["$ref"]], definitions, depth)
    if depth > _DEPTH_MAX:
        return _ANYTHING
    if "allOf" in schema:
        parts = [_of(part, definitions, depth) for part in schema["allOf"]]
        return st.tuples(*parts).map(_merged)
    right = _right(schema, definitions, depth)
    return right if depth == 0 else st.integers(0, 39).flatmap(lambda n: _ANYTHING if n == 39 else right)


def _merged(parts: tuple[Any, ...]) -> Any:
    return {key: value for part in parts if isinstance(part, dict) for key, value in part.items()}


def _right(schema: dict[str, Any], definitions: dict[str, Any], depth: int) -> st.SearchStrategy[Any]:
    """A value of the type that the schema says."""
    if "enum" in schema:
        return st.one_of(st.sampled_from(schema["enum"]), _TEXTS)
    match schema.get("type", "object" if "properties" in schema else ""):
        case "string":
            return _TEXTS
        case "boolean":
            return st.booleans()
        case "integer" | "number":
            return _NUMBERS
        case "array":
            return st.lists(_of(schema.get("items", {}), definitions, depth + 1), max_size=3)
        case "object":
            return _object(schema, definitions, depth)
    return _ANYTHING


def _object(schema: dict[str, Any], definitions: dict[str, Any], depth: int) -> st.SearchStrategy[Any]:
    """A few of the members that it has, or any names where they are free."""
    members = {name: _of(value, definitions, depth + 1) for name, value in schema.get("properties", {}).items()}
    if not members:
        return st.dictionaries(_TEXTS, _of(schema.get("additionalProperties", {}), definitions, depth + 1), max_size=3)
    return st.lists(st.sampled_from(sorted(members)), max_size=5, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: members[name] for name in names})
    )

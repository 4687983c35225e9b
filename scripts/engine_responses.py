"""Makes tests/support/engine_responses.json: what each operation of the Engine API answers, as bare schemas; and
tests/support/container_create.json, that of the body that makes a container.

    python scripts/engine_responses.py engine-api-v1.56.yaml

The Swagger file is Docker's and not part of this repository; of it only names and types are kept.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

SUPPORT = Path(__file__).resolve().parents[1] / "tests" / "support"
TARGET, CREATE = SUPPORT / "engine_responses.json", SUPPORT / "container_create.json"
_KEPT = ("type", "format", "enum", "required", "x-nullable", "minimum", "maximum", "pattern")


def bare(schema: Any) -> Any:
    """Only what says which values are right; references stay."""
    if "$ref" in schema:
        kept = {"$ref": schema["$ref"].rpartition("/")[2]}
        return kept | ({"x-nullable": True} if schema.get("x-nullable") else {})
    found = {key: schema[key] for key in _KEPT if key in schema}
    if "properties" in schema:
        found["properties"] = {name: bare(value) for name, value in schema["properties"].items()}
    if isinstance(schema.get("items"), dict):
        found["items"] = bare(schema["items"])
    if isinstance(schema.get("additionalProperties"), dict):
        found["additionalProperties"] = bare(schema["additionalProperties"])
    if "allOf" in schema:
        found["allOf"] = [bare(part) for part in schema["allOf"]]
    return found


def main() -> None:
    """Read the file that is named, write the schemas."""
    document = yaml.safe_load(Path(sys.argv[1]).read_text())
    answers: dict[str, Any] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if not isinstance(operation, dict) or "responses" not in operation:
                continue
            statuses: dict[str, Any] = {}
            for status, response in operation["responses"].items():
                statuses[str(status)] = bare(response["schema"]) if "schema" in response else None
            answers[f"{method.upper()} {path}"] = statuses
    definitions = {name: bare(schema) for name, schema in document["definitions"].items()}
    write(TARGET, "answers", answers, definitions)
    parameters = document["paths"]["/containers/create"]["post"]["parameters"]
    body = next(bare(parameter["schema"]) for parameter in parameters if parameter["in"] == "body")
    write(CREATE, "body", body, definitions)


def write(target: Path, name: str, schemas: Any, definitions: dict[str, Any]) -> None:
    """`schemas` as `name`, and the definitions that they need."""
    used: dict[str, Any] = {}
    collect(schemas, definitions, used)
    text = json.dumps({name: schemas, "definitions": used}, indent=0, sort_keys=True, separators=(",", ":"))
    target.write_text(text + "\n")


def collect(node: Any, definitions: dict[str, Any], used: dict[str, Any]) -> None:
    """The definitions that `node` needs."""
    if isinstance(node, dict):
        name = node.get("$ref")
        if isinstance(name, str) and name not in used:
            used[name] = definitions[name]
            collect(used[name], definitions, used)
        for value in node.values():
            collect(value, definitions, used)
    elif isinstance(node, list):
        for value in node:
            collect(value, definitions, used)


if __name__ == "__main__":
    main()

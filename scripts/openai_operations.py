"""Writes openai_operations.json from OpenAI's API description: `python scripts/openai_operations.py openapi.json`.

Only names are kept: operations of the areas served here, their parameters, and the fields of requests and answers.
"""

import json
import sys
from pathlib import Path
from typing import Any

TARGET = Path(__file__).with_name("openai_operations.json")
AREAS = ("chat", "completions", "evals", "files", "fine_tuning", "models", "moderations", "uploads")
DEPTH = 5  # names of a path: deeper ones are the arguments of tools and the like
Node = dict[str, Any]


def operations(spec: Node) -> list[Node]:
    return [
        _operation(spec, method, path, operation)
        for path, methods in spec["paths"].items()
        for method, operation in methods.items()
        if path.split("/")[1] in AREAS and method in ("get", "post", "delete")
    ]


def _operation(spec: Node, method: str, path: str, operation: Node) -> Node:
    bodies = operation.get("requestBody", {}).get("content", {})
    answers = next(answer["content"] for status, answer in operation["responses"].items() if status in ("200", "201"))
    return {
        "method": method.upper(),
        "path": f"/v1{path}",
        "query": [one["name"] for one in operation.get("parameters", []) if one["in"] == "query"],
        "form": "multipart/form-data" in bodies,
        "request": sorted(name for body in bodies.values() for name in _properties(spec, body["schema"])),
        "answer": _paths(spec, answers["application/json"]["schema"]),
        "stream": _paths(spec, answers["text/event-stream"]["schema"]) if "text/event-stream" in answers else [],
    }


def _paths(spec: Node, schema: Node, depth: int = DEPTH) -> list[str]:
    """`choices[].message.content`: every name, the outer one before those inside it."""
    found = []
    for name, inner in sorted(_properties(spec, schema).items()):
        items = _items(spec, inner)
        name = name if items is None else f"{name}[]"
        found.append(name)
        if depth > 1:
            found += [f"{name}.{below}" for below in _paths(spec, inner if items is None else items, depth - 1)]
    return found


def _properties(spec: Node, schema: Node) -> Node:
    schema = _resolved(spec, schema)
    found: Node = {}
    for part in _parts(schema):
        for name, inner in _properties(spec, part).items():  # of one name in two variants, both
            found[name] = {"anyOf": [found[name], inner]} if name in found else inner
    return {**found, **schema.get("properties", {})}


def _items(spec: Node, schema: Node) -> Node | None:
    schema = _resolved(spec, schema)
    if "items" in schema:
        return dict(schema["items"])
    return next((items for part in _parts(schema) if (items := _items(spec, part)) is not None), None)


def _parts(schema: Node) -> list[Node]:
    return [part for word in ("allOf", "oneOf", "anyOf") for part in schema.get(word, [])]


def _resolved(spec: Node, schema: Node) -> Node:
    while "$ref" in schema:
        node = spec
        for name in schema["$ref"].removeprefix("#/").split("/"):
            node = node[name]
        schema = node
    return schema


if __name__ == "__main__":
    description = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    lines = ",\n".join(json.dumps(operation) for operation in operations(description))
    TARGET.write_text(f"[\n{lines}\n]\n", encoding="utf-8")

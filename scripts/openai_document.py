"""Writes tests/fuzz/openai_document.json from OpenAI's description: `python scripts/openai_document.py openapi.json`.

Kept are the operations of the areas served here and the schemas of what they are asked, without prose and examples. The
schemas of answers are in tests/api/openai_schemas.json; both together are the document that fuzzing reads.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from openai_operations import AREAS

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "tests" / "fuzz" / "openai_document.json"
ANSWERS = ROOT / "tests" / "api" / "openai_schemas.json"
PROSE = ("description", "summary", "title", "example", "examples", "externalDocs", "deprecated")
Node = dict[str, Any]


def document(spec: Node, known: set[str]) -> Node:
    paths = {
        path: {method: _operation(found) for method, found in methods.items() if method in ("get", "post", "delete")}
        for path, methods in spec["paths"].items()
        if path.split("/")[1] in AREAS
    }
    schemas = spec["components"]["schemas"]
    wanted: dict[str, Node] = {}
    waiting = [name for name in _references(paths) if name not in known]
    while waiting:
        name = waiting.pop()
        if name not in wanted and name not in known:
            wanted[name] = _without_prose(schemas[name])
            waiting += _references(wanted[name])
    return {"paths": paths, "schemas": dict(sorted(wanted.items()))}


def _operation(operation: Node) -> Node:
    """Of the answers the 200: OpenAI describes next to no other."""
    kept: Node = {name: _without_prose(operation[name]) for name in ("parameters", "requestBody") if name in operation}
    return {**kept, "responses": {"200": _without_prose(operation["responses"]["200"])}}


def _without_prose(value: Any) -> Any:
    """A property may be called `title`: a name is prose only where its value is text, or a list beside a type."""
    if isinstance(value, list):
        return [_without_prose(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: _without_prose(inner)
        for name, inner in value.items()
        if not name.startswith("x-") and not (name in PROSE and not (isinstance(inner, dict) and name != "examples"))
    }


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"].rpartition("/")[2]
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def _lines(found: Node) -> str:
    return ",\n".join(f"{json.dumps(name)}: {json.dumps(inner)}" for name, inner in found.items())


if __name__ == "__main__":
    description = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    answered = json.loads(ANSWERS.read_text(encoding="utf-8"))["components"]["schemas"]
    made = document(description, set(answered))
    text = f'{{"paths": {{\n{_lines(made["paths"])}\n}},\n"schemas": {{\n{_lines(made["schemas"])}\n}}}}\n'
    TARGET.write_text(text, encoding="utf-8")

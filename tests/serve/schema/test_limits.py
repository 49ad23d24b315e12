"""Schemas made to cost much: each is taken or refused within a second of work, in a sentence, and no thread waits."""

import random
import string
import threading
import time
from typing import Any

import pytest

from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject
from tunesmith.serve.chat.schema import schema_fault
from tunesmith.serve.chat.schema_limits import multiple, schemas_in_time
from tunesmith.serve.schema.view import TOO_MUCH_WORK

WORST_SECONDS = 3.0  # of a processor; they take 1 s on the slowest machine that was measured
DRAW = random.Random(5)


def word(length: int) -> str:
    return "".join(DRAW.choices(string.ascii_lowercase, k=length))


def chain(length: int, wide: int) -> JsonObject:
    definitions: dict[str, Any] = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * wide} for n in range(length)}
    return {"$ref": "#/$defs/d0", "$defs": {**definitions, f"d{length}": {"type": "string"}}}


def nested(depth: int, wide: int) -> Any:
    if not depth:
        return {"type": "object", "properties": {word(3): {"type": "string"}}}
    return {"oneOf": [nested(depth - 1, wide) for _ in range(wide)]}


TEXT = {"type": "string"}
DEAR: dict[str, tuple[Any, str | None]] = {  # schema -> the words of its refusal; None: it is taken
    "references in a chain": (chain(40, 8), TOO_MUCH_WORK),
    "references in a long chain": (chain(200, 8), "nested too deeply"),
    "4,000 values": ({"enum": [word(20) for _ in range(4000)]}, None),
    "not of 4,000 values": ({**TEXT, "not": {"enum": [word(20) for _ in range(4000)]}}, "the limit is 60000"),
    "oneOf of 300": ({"oneOf": [{"const": n} for n in range(300)]}, None),
    "oneOf of objects with enums": (
        {
            "oneOf": [
                {"properties": {"a": {"enum": [f"{n}-{m}" for m in range(200)]}}, "required": ["a"]} for n in range(60)
            ]
        },
        "too many branches of 'oneOf' may fit together",
    ),
    "oneOf in oneOf": (nested(3, 4), "more than 20000 parts"),
    "patterns on one text": (
        {**TEXT, "allOf": [{"pattern": f".*{word(3)}.*"} for _ in range(30)]},
        "one text must match 30 patterns at once, the limit is 10",
    ),
    "patterns on one text through $ref": (
        {
            "allOf": [{"$ref": f"#/$defs/p{n}"} for n in range(30)],
            "$defs": {f"p{n}": {**TEXT, "pattern": f".*{word(3)}.*"} for n in range(30)},
        },
        "one text must match 30 patterns at once",
    ),
    "a large multiple": ({"type": "integer", "multipleOf": 99_999_989}, "'multipleOf' has too many digits"),
    "many multiples": (
        {"type": "object", "properties": {f"p{n}": {"type": "integer", "multipleOf": 9973 + n} for n in range(100)}},
        "'multipleOf' has too many digits: all of a schema may come to 100000",
    ),
    "names by 200 patterns": (
        {"type": "object", "patternProperties": {f"^k{n}_": TEXT for n in range(200)}},
        "it lists 200 'patternProperties', the limit is 100",
    ),
    "many lengths": (
        {"type": "object", "properties": {f"p{n}": {**TEXT, "minLength": n, "maxLength": n * 997} for n in range(200)}},
        None,
    ),
    "many items": (
        {"type": "array", "minItems": 50, "maxItems": 10**6, "items": {"type": "array", "minItems": 10**9}},
        None,
    ),
    "a counted pattern": ({**TEXT, "pattern": "^(a{1,500}b{1,500}){1,500}$"}, None),
}


@pytest.mark.parametrize("name", DEAR)
def test_a_dear_schema_is_taken_or_refused_within_bounds(name: str) -> None:
    schema, words = DEAR[name]
    began = time.thread_time()
    fault = schema_fault(schema)
    assert time.thread_time() - began < WORST_SECONDS
    assert fault is None if words is None else words in (fault or ""), fault


def test_digits_of_a_multiple_count_without_point_and_zeros() -> None:
    found = [multiple({"multipleOf": value}) for value in (0.01, 1000, 12.5, 99_991, 1e-7, 1e20, True, "2", 0)]
    assert found == [1, 1, 125, 99_991, 1, 1, 0, 0, 0]


def test_a_schema_that_is_checked_lets_other_threads_run() -> None:
    schema: JsonObject = {"type": "object", "properties": {f"{word(8)}{n}": {"type": "string"} for n in range(2500)}}
    work = threading.Thread(target=schema_fault, args=(schema,))
    work.start()
    turns = 0
    while work.is_alive():
        time.sleep(0.001)
        turns += 1
    assert turns > 20  # one or two, were the interpreter held


def checked_late() -> None:
    with schemas_in_time(0.0):
        time.sleep(0.001)
        schema_fault({"type": "string"})


def test_the_schemas_of_a_request_have_a_time_limit() -> None:
    with pytest.raises(InvalidRequest, match="take too long to prepare") as refused:
        checked_late()
    assert refused.value.code == "schemas_too_large"

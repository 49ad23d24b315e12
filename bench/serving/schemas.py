"""Counts the JSON schemas that answers can be held to: python bench/serving/schemas.py FOLDER [--cut 2000] [--seed 7]

FOLDER holds JSON files: a schema each, a record with `schema` and `tests` (maskbench of JSONSchemaBench), or a list of
such records (JSON-Schema-Test-Suite). Prints how many are accepted and, by reason, refused.

What is accepted is judged by another implementation (jsonschema-rs). Answers drawn at random from the grammar, and
invalid variants of the records' valid instances, must not be let through as valid; a valid instance must be
accepted in some order of its properties. Every schema that fails is named. Grammars are walked byte by byte.
"""

import argparse
import json
import math
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema_rs
from llguidance import LLMatcher, LLTokenizer

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.serve.chat.schema import json_rule, schema_fault

TOKENIZER = LLTokenizer("byte")
WALKS, WALK_BYTES, VARIANTS, TRIES = 6, 600, 20, 400
UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
DURATION = re.compile(r"P(?=.)(\d+[YMWD])*(T(?=.)(\d+[HMS])+)?")
NEWER_FORMATS: dict[str, Callable[..., bool]] = {  # answers are held to them in every draft
    "uuid": lambda text: UUID.fullmatch(text) is not None,
    "duration": lambda text: DURATION.fullmatch(text) is not None,
}
BAD: tuple[JsonValue, ...] = (None, True, 0, -1, 1.5, 10**6, "", "x", "x" * 300, [], ["x", "x"], {}, {"zz": 1})


@dataclass
class Table:
    seen: int = 0
    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    judged: Counter[str] = field(default_factory=Counter)
    slowest: list[tuple[float, str]] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cut", type=int, help="judge so many, drawn at random")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--names", action="store_true", help="name every schema that is refused")
    options = parser.parse_args()
    files = sorted(options.folder.rglob("*.json"))
    if options.cut is not None and options.cut < len(files):
        files = sorted(random.Random(options.seed).sample(files, options.cut))
    table = Table()
    for name, schema, tests in (record for file in files for record in _records(file)):
        _judge(name, schema, tests, table, random.Random(options.seed), options.names)
    _print(table)


def _records(file: Path) -> Iterator[tuple[str, JsonObject, list[JsonObject]]]:
    try:
        value = json.loads(file.read_bytes())
    except ValueError:
        return
    for number, record in enumerate(value if isinstance(value, list) else [value]):
        wrapped = isinstance(record, dict) and isinstance(record.get("tests"), list) and "schema" in record
        schema = record["schema"] if wrapped else record
        if isinstance(schema, dict):
            yield f"{file.name}[{number}]", schema, record["tests"] if wrapped else []


def _judge(
    name: str, schema: JsonObject, tests: list[JsonObject], table: Table, rng: random.Random, names: bool
) -> None:
    table.seen += 1
    started = time.perf_counter()
    fault = schema_fault(schema)
    table.slowest = sorted([*table.slowest, (time.perf_counter() - started, name)], reverse=True)[:5]
    if fault is not None:
        table.refused[_reason(fault)] += 1
        if names:
            print(f"refused {name}: {fault}"[:300], flush=True)
        return
    table.accepted += 1
    try:
        judge = jsonschema_rs.validator_for(schema, validate_formats=False)
        strict = jsonschema_rs.validator_for(schema, validate_formats=True, formats=NEWER_FORMATS)
    except (ValueError, jsonschema_rs.ReferencingError):
        table.judged["schemas that the judge does not take"] += 1
        return
    matcher = LLMatcher(TOKENIZER, f"start: {json_rule(schema)}", log_level=0)
    if matcher.is_error():
        table.wrong["does not compile"] += 1
        print(f"wrong {name}: does not compile: {matcher.get_error()[:200]}", flush=True)
        return
    _walks(name, matcher, judge, table, rng)
    valid = [test["data"] for test in tests if strict.is_valid(test["data"])]
    for test in tests:
        _instance(name, matcher, test["data"], judge, strict, table)
    for value in valid[:3]:
        for variant in _variants(value, rng):
            if not judge.is_valid(variant):
                _instance(name, matcher, variant, judge, strict, table)


def _walks(name: str, start: LLMatcher, judge: jsonschema_rs.Validator, table: Table, rng: random.Random) -> None:
    for _ in range(WALKS):
        text = _walk(start.deep_copy(), rng)
        if text is None:
            table.judged["walks left unfinished"] += 1
            continue
        table.judged["walks"] += 1
        if not judge.is_valid(json.loads(text)):
            table.wrong["invalid answer generated"] += 1
            print(f"wrong {name}: generated {text[:300]!r}", flush=True)


def _walk(matcher: LLMatcher, rng: random.Random) -> str | None:
    out = bytearray()
    while not matcher.is_stopped():
        if len(out) > WALK_BYTES:
            return None
        if matcher.is_accepting() and rng.random() < 0.7:
            break
        mask = matcher.compute_bitmask()
        allowed = [byte for byte in range(256) if mask[byte >> 3] >> (byte & 7) & 1]
        if not allowed:
            if matcher.is_accepting():
                break
            raise SystemExit(f"dead end after {bytes(out)!r}")
        out.append(byte := _drawn(allowed, rng, len(out)))
        matcher.consume_token(byte)
    text = out.decode(errors="replace")
    return None if math.inf in map(abs, _numbers(json.loads(text))) else text


def _numbers(value: JsonValue) -> Iterator[float]:
    """The exponents of the grammar are free, those of floats are not."""
    if isinstance(value, int | float):
        yield value
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        yield from _numbers(child)


def _drawn(allowed: list[int], rng: random.Random, length: int) -> int:
    """Ends what can be ended, the sooner the longer the answer is."""
    ends = [byte for byte in allowed if byte in b'"]}']
    if ends and rng.random() < (0.4 if length < 250 else 0.95):
        return rng.choice(ends)
    plain = [byte for byte in allowed if 32 < byte < 127 and byte != 92] or allowed
    return rng.choice(plain)


def _instance(
    name: str,
    start: LLMatcher,
    value: JsonValue,
    judge: jsonschema_rs.Validator,
    strict: jsonschema_rs.Validator,
    table: Table,
) -> None:
    right = judge.is_valid(value)
    tries = [TRIES]
    taken = any(end.is_accepting() for end in _spelled(start, value, tries))
    table.judged["valid instances" if right else "invalid instances"] += 1
    if taken and not right:
        table.wrong["invalid instance accepted"] += 1
        print(f"wrong {name}: accepts {json.dumps(value)[:300]}", flush=True)
    if not taken and strict.is_valid(value) and tries[0] > 0:
        table.wrong["valid instance rejected"] += 1
        print(f"wrong {name}: rejects {json.dumps(value)[:300]}", flush=True)


def _spelled(matcher: LLMatcher, value: JsonValue, tries: list[int]) -> Iterator[LLMatcher]:
    """The matchers behind `value`, whose properties are tried in every order while `tries` last."""
    if isinstance(value, dict) and value:
        yield from _members(matcher, b"{", value, tries)
    elif isinstance(value, list) and value:
        yield from _items(matcher, b"[", value, tries)
    elif (end := _behind(matcher, json.dumps(value, ensure_ascii=False).encode(), tries)) is not None:
        yield end


def _members(matcher: LLMatcher, before: bytes, left: JsonObject, tries: list[int]) -> Iterator[LLMatcher]:
    if not left:
        if (end := _behind(matcher, b"}", tries)) is not None:
            yield end
        return
    for name, value in left.items():
        head = _behind(matcher, before + json.dumps(name, ensure_ascii=False).encode() + b":", tries)
        if head is not None:
            rest = {key: other for key, other in left.items() if key != name}
            for end in _spelled(head, value, tries):
                yield from _members(end, b",", rest, tries)


def _items(matcher: LLMatcher, before: bytes, left: list[JsonValue], tries: list[int]) -> Iterator[LLMatcher]:
    head = _behind(matcher, before if left else b"]", tries)
    if head is None:
        return
    if not left:
        yield head
        return
    for end in _spelled(head, left[0], tries):
        yield from _items(end, b"," if len(left) > 1 else b"", left[1:], tries)


def _behind(matcher: LLMatcher, text: bytes, tries: list[int]) -> LLMatcher | None:
    if tries[0] <= 0:
        return None
    if not text:
        return matcher
    copy = matcher.deep_copy()
    if copy.try_consume_tokens(list(text)) == len(text):
        return copy
    tries[0] -= 1
    return None


def _variants(value: JsonValue, rng: random.Random) -> list[JsonValue]:
    places = list(_places(value, ()))
    changes = [(place, change) for place in places for change in ("drop", "add", "twice", *BAD)]
    rng.shuffle(changes)
    return [_changed(value, place, change) for place, change in changes[:VARIANTS]]


def _places(value: JsonValue, path: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from _places(child, (*path, key))


def _changed(value: JsonValue, path: tuple[str | int, ...], change: JsonValue) -> JsonValue:
    copy = json.loads(json.dumps([value]))
    holder: Any = copy
    key: str | int = 0
    for part in path:
        holder, key = holder[key], part
    found = holder[key]
    if change == "drop":
        del holder[key]
    elif change == "add" and isinstance(found, dict):
        found["zz"] = "x"
    elif change == "twice" and isinstance(found, list):
        found.extend(found)
    else:
        holder[key] = change
    return copy[0] if copy else None


def _reason(fault: str) -> str:
    fault = re.sub(r"^at .*?, (?=unsup|the '|'|this |it |control|schema|[A-Z])", "", fault)
    return re.sub(r"/.*/|\d{3,}", "…", fault)[:90]


def _print(table: Table) -> None:
    print(f"\n| schemas | {table.seen} |\n| --- | --- |")
    print(f"| accepted | {table.accepted} ({100 * table.accepted / max(1, table.seen):.1f} %) |")
    print(f"| refused | {table.refused.total()} |")
    for counter in (table.refused, table.judged):
        for reason, count in counter.most_common(60):
            print(f"| {'refused: ' if counter is table.refused else ''}{reason} | {count} |")
    print(f"| wrong | {table.wrong.total()} |")
    for reason, count in table.wrong.most_common():
        print(f"| wrong: {reason} | {count} |")
    for seconds, name in table.slowest:
        print(f"| slowest check, s: {name} | {seconds:.2f} |")


if __name__ == "__main__":
    main()

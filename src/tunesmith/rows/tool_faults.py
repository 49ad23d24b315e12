"""Faults of tools: declarations, calls, and the messages that answer calls."""

import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from threading import Lock

import jsonschema_rs
import orjson

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.rows.findings import Fault, shorten
from tunesmith.rows.other_shapes.turns import role_of
from tunesmith.rows.schema_cost import nesting, patterns_cost, schema_steps
from tunesmith.rows.schema_document import SchemaDocument
from tunesmith.wire.limits import MAX_TOOLS

TYPES = ("string", "number", "integer", "boolean", "object", "array", "null")
CACHED_BYTES = 64 * 1024  # 512 larger declarations would fill the memory: of those,
LARGE_CACHED_BYTES = 4 * 1024 * 1024  # only so many bytes are kept
MAX_STEPS = 4_000_000  # schemas visited for one value; a validator takes 0.1 s for them
WORDED_STEPS = 4_000  # finding words for what does not fit takes 500 times as long, and 10 kB a step
MAX_STATES = 50_000  # of a schema's patterns, repeats written out
PATTERN_WORK = 4_000_000  # states of repeats within repeats, times characters; 0.3 s
WORDED_WORK = 8_000_000  # steps times characters: each of many errors has a copy of the value


class Parameters:
    """A tool's `parameters`, compiled.

    Raises ValueError for those that take too many steps to check.
    """

    def __init__(self, schema: JsonObject) -> None:
        self._document = SchemaDocument(schema)
        self._steps: dict[int, float] = {}
        if math.isinf(self.steps(0)):
            raise ValueError("a '$ref' in it leads back to itself, so no arguments can be told to fit")
        if self.steps(0) > MAX_STEPS:
            raise ValueError(f"its '$ref', 'anyOf' and 'allOf' come to more than {MAX_STEPS:,} steps; make it simpler")
        cost = patterns_cost(schema)
        if cost.states > MAX_STATES:
            raise ValueError(
                f"the repeats of its patterns come to {cost.states:,} states, and {MAX_STATES:,} is the most;"
                " use smaller counts, or 'maxLength'"
            )
        self.nested_states = cost.nested
        # Only now: what is unevaluated is compiled anew for every path.
        self.validator = jsonschema_rs.validator_for(schema, retriever=_refuse, validate_formats=False)

    def steps(self, depth: int) -> float:
        """Upper bound of the schemas visited for a value of that depth."""
        if depth not in self._steps:
            self._steps[depth] = schema_steps(self._document, depth)
        return self._steps[depth]


@dataclass(frozen=True, slots=True)
class Declared:
    """The tools that a row declares.

    Their faults, and compiled parameters (or None) for each name.
    """

    faults: tuple[Fault, ...]
    schemas: dict[str, Parameters | None]


_NOTHING = Declared((), {})


def declared(row: JsonObject) -> Declared:
    """The tools that a row or chat request declares.

    The result is cached, as the rows of one file mostly share them.
    """
    tools, functions = row.get("tools"), row.get("functions")
    if tools is None and functions is None:
        return _NOTHING
    try:
        source = orjson.dumps([tools, functions])
    except orjson.JSONEncodeError:  # integers beyond 64 bits, which other parsers let through
        return _checked(tools, functions)
    return _declared(source) if len(source) <= CACHED_BYTES else _LARGE.declared(source)


@lru_cache(maxsize=512)
def _declared(source: bytes) -> Declared:
    return _checked(*orjson.loads(source))


class _Large:
    """The last large declarations, by their digests."""

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, tuple[int, Declared]] = OrderedDict()
        self._lock = Lock()

    def declared(self, source: bytes) -> Declared:
        """What `source` declares."""
        digest = sha256(source).digest()
        with self._lock:
            known = self._kept.get(digest)
            if known is not None:
                self._kept.move_to_end(digest)
                return known[1]
        found = _checked(*orjson.loads(source))
        with self._lock:
            self._kept[digest] = len(source), found
            while sum(size for size, _ in self._kept.values()) > LARGE_CACHED_BYTES:
                self._kept.popitem(last=False)
        return found


_LARGE = _Large()


def _checked(tools: JsonValue, functions: JsonValue) -> Declared:
    schemas: dict[str, Parameters | None] = {}
    faults = tuple(_declared_faults({"tools": tools, "functions": functions}, schemas))
    return Declared(faults, schemas)


def _declared_faults(row: JsonObject, schemas: dict[str, Parameters | None]) -> Iterator[Fault]:
    """The faults of the declarations; puts what can be called into `schemas`."""
    for key, index, path, value in _declarations(row):
        if value is None:
            yield Fault("invalid_tool", path, f"'{key}' entry {index} is not a function declaration.")
            continue
        name = value.get("name")
        if not isinstance(name, str) or not name:
            yield Fault("invalid_tool", f"{path}.name", "The tool has no name.", shorten(name))
            continue
        if name in schemas:
            yield Fault("duplicate_tool", f"{path}.name", f"Two tools are called {shorten(name)}.", shorten(name))
        compiled = _compiled(value.get("parameters"), f"{path}.parameters")
        if isinstance(compiled, Fault):
            yield compiled
        schemas[name] = None if isinstance(compiled, Fault) else compiled
    for key in ("tools", "functions"):
        values = row.get(key)
        if values is not None and not isinstance(values, list):
            yield Fault("invalid_tool", key, f"'{key}' is not a list.", shorten(values))
        elif isinstance(values, list) and len(values) > MAX_TOOLS:
            yield Fault("invalid_tool", key, f"{len(values)} tools are more than {MAX_TOOLS}.")


def declared_call_faults(tools: Declared, messages: JsonValue, path: str) -> Iterator[Fault]:
    """Calls that name no declared tool, or whose arguments do not fit its schema."""
    undeclared = False
    for where, name, arguments in _calls(messages, path):
        if not tools.schemas:
            undeclared = True
        elif name not in tools.schemas:
            yield Fault("undeclared_tool", f"{where}.name", f"No tool {shorten(name)} is declared.", shorten(name))
        else:
            yield from _fit_faults(tools.schemas[name], arguments, where)
    if undeclared:
        yield Fault("no_tools_declared", path, "The row calls tools but declares none.")


def call_faults(message: JsonObject, path: str, *, training: bool = True) -> Iterator[Fault]:
    """Faults in the form of one message's `tool_calls` and `function_call`.

    Arguments must be a JSON object to be learned; in a chat they are whatever the model wrote, cut or empty too.
    """
    calls = message.get("tool_calls")
    if calls is not None and not isinstance(calls, list):
        yield Fault("invalid_tool_call", f"{path}.tool_calls", "'tool_calls' is not a list of calls.", shorten(calls))
    for index, call in enumerate(calls if isinstance(calls, list) else ()):
        where = f"{path}.tool_calls[{index}]"
        if not isinstance(call, dict):
            yield Fault("invalid_tool_call", where, "The call is not an object.", shorten(call))
            continue
        if call.get("type", "function") != "function":
            text = f"The call is of type {shorten(call['type'])}, not 'function'."
            yield Fault("invalid_tool_call", f"{where}.type", text, shorten(call["type"]))
        if not isinstance(call.get("id"), str) or not call["id"]:
            yield Fault("invalid_tool_call", f"{where}.id", "The call has no id.", shorten(call.get("id")))
        yield from _function_faults(call.get("function"), f"{where}.function", training=training)
    if message.get("function_call") is not None:
        yield from _function_faults(message["function_call"], f"{path}.function_call", training=training)


def are_sound_calls(calls: JsonValue) -> bool:
    """Whether `call_faults` would find nothing in these `tool_calls`."""
    return isinstance(calls, list) and bool(calls) and all(map(_is_sound_call, calls))


def _is_sound_call(call: JsonValue) -> bool:
    if not isinstance(call, dict) or call.get("type") != "function":
        return False
    function, number = call.get("function"), call.get("id")
    if not isinstance(function, dict) or not isinstance(number, str) or not number:
        return False
    name, arguments = function.get("name"), function.get("arguments")
    if not isinstance(name, str) or not name or not isinstance(arguments, str):
        return False
    return isinstance(_parsed(arguments), dict)


def tool_message_faults(messages: list[JsonObject], path: str) -> Iterator[Fault]:
    """Tool messages that answer no call, and calls that are not answered in time."""
    open_ids: dict[str, int] = {}
    known: set[str] = set()
    for index, message in enumerate(messages):
        role = role_of(message.get("role"))
        if role == "tool" and isinstance(call_id := message.get("tool_call_id"), str):
            open_ids.pop(call_id, None)
            if call_id not in known:
                text = f"No call before it has the id {shorten(call_id)}."
                yield Fault("orphan_tool_message", f"{path}[{index}].tool_call_id", text, shorten(call_id))
        elif role in ("user", "assistant"):
            for unanswered, at in open_ids.items():
                text = f"Call {shorten(unanswered)} is not answered before the next turn."
                yield Fault("unanswered_call", f"{path}[{at}].tool_calls", text, shorten(unanswered))
            open_ids = dict.fromkeys(_call_ids(message), index) if "tool_calls" in message else {}
            known = set(open_ids) if role == "assistant" else set()


def _call_ids(message: JsonObject) -> list[str]:
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return []
    found = [call.get("id") for call in calls if isinstance(call, dict)]
    return [call_id for call_id in found if isinstance(call_id, str)]


def _function_faults(function: JsonValue, path: str, *, training: bool) -> Iterator[Fault]:
    if not isinstance(function, dict):
        yield Fault("invalid_tool_call", path, "The call names no function.", shorten(function))
        return
    if not isinstance(function.get("name"), str) or not function["name"]:
        yield Fault("invalid_tool_call", f"{path}.name", "The call names no function.", shorten(function.get("name")))
    arguments = function.get("arguments")
    if isinstance(arguments, dict):
        yield Fault("arguments_not_text", f"{path}.arguments", "The arguments are an object.", shorten(arguments))
    elif not isinstance(arguments, str):
        yield Fault("invalid_tool_call", f"{path}.arguments", "The call has no arguments.", shorten(arguments))
    elif training and not isinstance(_parsed(arguments), dict):
        yield Fault(
            "arguments_not_json", f"{path}.arguments", "The arguments are not a JSON object.", shorten(arguments)
        )


def _parsed(arguments: JsonValue) -> JsonValue:
    if not isinstance(arguments, str):
        return arguments
    try:
        value: JsonValue = orjson.loads(arguments)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return None
    return value


def _declarations(row: JsonObject) -> Iterator[tuple[str, int, str, JsonObject | None]]:
    tools, functions = row.get("tools"), row.get("functions")
    for index, tool in enumerate(tools if isinstance(tools, list) else ()):
        function = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
        yield "tools", index, f"tools[{index}].function", function if isinstance(function, dict) else None
    for index, function in enumerate(functions if isinstance(functions, list) else ()):
        yield "functions", index, f"functions[{index}]", function if isinstance(function, dict) else None


def _calls(messages: JsonValue, path: str) -> Iterator[tuple[str, str, JsonValue]]:
    for index, message in enumerate(messages if isinstance(messages, list) else ()):
        if not isinstance(message, dict) or not ("tool_calls" in message or "function_call" in message):
            continue
        calls = message.get("tool_calls")
        for number, call in enumerate(calls if isinstance(calls, list) else ()):
            function = call.get("function") if isinstance(call, dict) else None
            if isinstance(function, dict) and isinstance(function.get("name"), str):
                where = f"{path}[{index}].tool_calls[{number}].function"
                yield where, str(function["name"]), function.get("arguments")
        function = message.get("function_call")
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            yield f"{path}[{index}].function_call", str(function["name"]), function.get("arguments")


def _compiled(parameters: JsonValue, path: str) -> Parameters | Fault | None:
    if parameters is None:
        return None
    if not isinstance(parameters, dict):
        return Fault("invalid_tool_schema", path, "The parameters are not an object.", shorten(parameters))
    try:
        return Parameters(parameters)
    except jsonschema_rs.ValidationError as error:
        problem = _misread(error)
    except RecursionError:
        problem = "it is nested too deeply"
    except (ValueError, TypeError, OverflowError) as error:
        problem = _first_line(str(error))
    return Fault("invalid_tool_schema", path, f"The schema is not valid: {problem}.", shorten(parameters))


def _misread(error: jsonschema_rs.ValidationError) -> str:
    """What of a schema is none, and where."""
    place = ".".join(map(str, error.instance_path))
    what = _first_line(error.message)
    if error.instance_path and error.instance_path[-1] == "type":
        what = f"{shorten(str(error.instance))} is no type of JSON: {', '.join(TYPES)}"
    return f"at {place}, {what}" if place else what


def _fit_faults(schema: Parameters | None, arguments: JsonValue, where: str) -> Iterator[Fault]:
    value = _parsed(arguments)
    if schema is None or not isinstance(value, dict):
        return
    steps = schema.steps(nesting(value))
    path = f"{where}.arguments"
    if steps > MAX_STEPS:
        text = f"Checking the arguments takes more than {MAX_STEPS:,} steps: simplify the schema's '$ref' and 'anyOf'."
        yield Fault("arguments_do_not_fit", path, text, shorten(arguments))
    elif schema.nested_states * len(str(arguments)) > PATTERN_WORK:
        text = "Checking the arguments takes too long: a 'pattern' of the schema has large repeats within repeats."
        yield Fault("arguments_do_not_fit", path, text, shorten(arguments))
    elif not schema.validator.is_valid(value):
        shown = shorten(arguments)
        worded = steps <= WORDED_STEPS and steps * len(str(arguments)) <= WORDED_WORK
        yield from (Fault(code, path, text, shown) for code, text in _misfits(schema.validator, value, worded=worded))


def _misfits(validator: jsonschema_rs.Validator, value: JsonObject, *, worded: bool) -> Iterator[tuple[str, str]]:
    """Code and sentence of what does not fit; where finding the words takes too long, one that says only that."""
    if not worded:
        yield "arguments_do_not_fit", "The arguments do not fit the schema."
        return
    rest, nulls = _without_refused_nulls(validator, value)
    if nulls and validator.is_valid(rest):
        for name in nulls:
            yield "null_argument", f"The optional argument {name} is null, which the schema does not allow."
        return
    yield "arguments_do_not_fit", _misfit(validator, value)


def _misfit(validator: jsonschema_rs.Validator, value: JsonObject) -> str:
    error = next(validator.iter_errors(value))
    at = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.instance_path)
    what = f"argument {at.lstrip('.')} does" if at else "arguments do"
    return f"The {what} not fit the schema: {_first_line(error.message)}."


def _without_refused_nulls(schema: jsonschema_rs.Validator, arguments: JsonObject) -> tuple[JsonObject, list[str]]:
    """The arguments without the nulls of which the schema complains, and the names of those."""
    rest: JsonObject = orjson.loads(orjson.dumps(arguments))
    names = []
    for error in schema.iter_errors(arguments):
        *above, last = error.instance_path or [0]
        owner: JsonValue = rest
        for part in above:
            owner = _inner(owner, part)
        if isinstance(owner, dict) and isinstance(last, str) and owner.get(last, 0) is None:
            del owner[last]
            names.append(".".join(map(str, error.instance_path)))
    return rest, names


def _inner(owner: JsonValue, part: str | int) -> JsonValue:
    if isinstance(owner, dict) and isinstance(part, str):
        return owner.get(part)
    return owner[part] if isinstance(owner, list) and isinstance(part, int) else None


def _refuse(uri: str) -> JsonObject:
    """A schema taken from data must not make this machine fetch anything."""
    raise ValueError(f"references to other documents are not followed ({uri[:80]})")


def _first_line(text: str) -> str:
    line = text.strip().splitlines()[0] if text.strip() else "not valid"
    return (line if len(line) <= 160 else line[:159] + "…").rstrip(".")

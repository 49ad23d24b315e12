"""Readers of blocks of calls: JSON, Python, and the XML-like ones."""

import ast
import json
import re
from collections.abc import Iterator

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.render.call_forms import CallText, read_calls
from tunesmith.render.formats.form import Calls
from tunesmith.render.formats.quotes import requoted
from tunesmith.render.formats.values import Schemas, typed, unwrapped

MAX_PYTHON_CHARS = 65_536  # Python's parser takes about 1 ms for 1,000 characters
# Outside of strings: a name before a bracket, and zeros before a number; Python has no hyphens in names.
_PYTHON_NAME = re.compile(
    r""""(?:\\.|[^"\\])*+"?|'(?:\\.|[^'\\])*+'?|(?<![\w.-])([A-Za-z_][\w.]*+(?:-[\w.]++)++)\(|(?<![\w.])0++(?=\d)""",
    re.DOTALL,
)
_HYPHEN = "__hyphen__"
_UNREADABLE = (ValueError, SyntaxError, RecursionError, MemoryError, TypeError)
_NAMES = ("name", "tool_name", "function_name", "function")
_ARGUMENTS = ("arguments", "parameters", "args", "input")
# Names have no `<`, and what follows a mark is possessive: no text makes these go back and forth.
_FUNCTION = re.compile(r"<function=([^<>\n]++)>(.*?)(?:</function>|(?=<function=)|\Z)", re.DOTALL)
_PARAMETER = re.compile(
    r"<parameter=([^<>\n]++)>(.*?)"
    r"(?:</parameter>\s*+(?=<parameter=|</function>|\Z)|(?=<parameter=)|(?=</function>)|\Z)",
    re.DOTALL,
)
_INVOKE = re.compile(r'<[^<>\s/]{0,32}invoke name="?([^"<>]++)"?+[^<>]*+>(.*?)(?:</[^<>\s]{0,32}invoke>|\Z)', re.DOTALL)
_NAMED = re.compile(
    r'<[^<>\s/]{0,32}parameter name="?([^"<>]++)"?+([^<>]*+)>(.*?)'
    r"(?:</[^<>\s]{0,32}parameter>|(?=<[^<>\s/]{0,32}parameter name=)|\Z)",
    re.DOTALL,
)
_KEYED = re.compile(
    r"<arg_key>((?:[^<]|<(?!/?arg_key>))*+)</arg_key>\s*+(?:<arg_type>\w*+</arg_type>\s*+)?+"
    r"<arg_value>(.*?)(?:</arg_value>|(?=<arg_key>)|\Z)",
    re.DOTALL,
)
_KEYED_NAME = re.compile(r"\s*+([^\s<{]++)\s*+(?:<tool_sep>\s*+)?+(?=<arg_key>|\Z)")
_OPEN_LIST = re.compile(r"\[\s*+\{")
_FENCED = re.compile(r"\s*+```\w*+\n?(.*?)\n?```\s*+", re.DOTALL)


def json_calls(body: str, schemas: Schemas) -> Calls | None:
    """JSON objects or lists of them, with any words for name and arguments."""
    if known := read_calls(body):
        return known, ""
    decoder, rest = json.JSONDecoder(), body.strip().removeprefix("<|plugin|>").lstrip()
    calls: tuple[CallText, ...] = ()
    fence = _FENCED.fullmatch(rest)
    rest = fence[1].strip() if fence else rest
    while rest[:1] in ("{", "["):
        try:
            value, end = decoder.raw_decode(rest)
        except _UNREADABLE:
            if calls or not _OPEN_LIST.match(rest):
                break
            rest = rest[1:].lstrip()  # what is whole in a list that is not closed
            continue
        found = [_json_call(one) for one in (value if isinstance(value, list) else [value])]
        if not all(found):
            break
        calls += tuple(one for one in found if one is not None)
        rest = rest[end:].lstrip(" \t\r\n,;")
    if rest and (whole := _python_objects(body)) is not None:
        return whole
    return (calls, rest) if calls else None


def _python_objects(body: str) -> Calls | None:
    """Objects whose arguments are in Python's spelling, as Phi-4's template writes them."""
    if len(body) > MAX_PYTHON_CHARS or "{" not in body:
        return None
    try:
        tree = ast.parse(body.strip())
        found = [_json_call(ast.literal_eval(one)) for line in tree.body for one in _elements(line)]
    except _UNREADABLE:
        return None
    calls = tuple(one for one in found if one is not None)
    return (calls, "") if calls and len(calls) == len(found) else None


def _json_call(value: JsonValue) -> CallText | None:
    if not isinstance(value, dict):
        return None
    name = next((value[key] for key in _NAMES if key in value), None)
    if isinstance(name, dict):
        return _json_call(name)
    if isinstance(name, str) and name:
        arguments = next((value[key] for key in _ARGUMENTS if key in value), {})
        return CallText(name, dump(arguments))
    if len(value) == 1:  # {name: {…}}, as Apertus writes it
        ((name, arguments),) = value.items()
        if isinstance(arguments, dict) and name not in _ARGUMENTS:
            return CallText(name, dump(arguments))
    return None


def dump(arguments: JsonValue) -> str:
    """Arguments as JSON text; what is text already stays as it is."""
    if arguments is None or arguments == "":
        return "{}"
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def python_calls(body: str, schemas: Schemas) -> Calls | None:
    """`[f(a=1), g()]`, or a call on each line, with JSON's words for values too."""
    if len(body) > MAX_PYTHON_CHARS or "(" not in body:
        return None
    text = body.strip()
    calls = _python_calls(text) or _python_calls(requoted(text))
    return (calls, "") if calls else None


def _python_calls(text: str) -> tuple[CallText, ...]:
    try:
        tree = ast.parse(_PYTHON_NAME.sub(_readable, text))
        return tuple(_python_call(one) for line in tree.body for one in _elements(line))
    except _UNREADABLE:
        return ()


def _readable(found: re.Match[str]) -> str:
    if found[1] is not None:
        return found[1].replace("-", _HYPHEN) + "("
    if found[0][0] == "0":
        return ""
    return found[0].replace("\n", "\\n").replace("\0", "\\0")  # a text may go on in the next line


def _elements(line: ast.stmt) -> list[ast.expr]:
    if not isinstance(line, ast.Expr):
        raise ValueError("no expression")
    return [*line.value.elts] if isinstance(line.value, ast.List | ast.Tuple) else [line.value]


def _python_call(node: ast.expr) -> CallText:
    if not isinstance(node, ast.Call) or node.args:
        raise ValueError("no call by names")
    name = ast.unparse(node.func).removesuffix(".call").replace(_HYPHEN, "-")
    arguments: JsonObject = {str(one.arg): _python_value(one.value) for one in node.keywords}
    return CallText(name, json.dumps(arguments, ensure_ascii=False))


def _python_value(node: ast.expr) -> JsonValue:
    match node:
        case ast.Name(id="true" | "false" | "null"):
            return {"true": True, "false": False, "null": None}[node.id]
        case ast.List(elts=elements) | ast.Tuple(elts=elements) | ast.Set(elts=elements):
            return [_python_value(one) for one in elements]
        case ast.Dict(keys=keys, values=values):
            names = [None if key is None else _python_value(key) for key in keys]
            return {str(name): _python_value(value) for name, value in zip(names, values, strict=True)}
    value: JsonValue = ast.literal_eval(node)
    return value


def xml_calls(body: str, schemas: Schemas) -> Calls | None:
    """`<function=NAME><parameter=KEY>VALUE</parameter></function>`, Qwen3-Coder's."""
    calls = []
    for found in _FUNCTION.finditer(body):
        name, inner = found[1].strip().strip("\"'"), found[2]
        if inner.strip().startswith("{"):  # Functionary's, with JSON between the tags
            calls.append(CallText(name, inner.strip()))
            continue
        known = schemas.get(name, {})
        pairs = ((one[1].strip().strip("\"'"), inner_text(one[2])) for one in _PARAMETER.finditer(inner))
        calls.append(_typed_call(name, pairs, known, guess=False))
    return (tuple(calls), "") if calls else json_calls(body, schemas)


def invoke_calls(body: str, schemas: Schemas) -> Calls | None:
    """Calls of MiniMax-M2 and DeepSeek V3.2.

    `<invoke name="NAME"><parameter name="KEY">VALUE</parameter></invoke>`"""
    calls, end = [], 0
    for found in _INVOKE.finditer(body):
        name, arguments = found[1], {}
        known, end = schemas.get(name, {}), found.end()
        for one in _NAMED.finditer(found[2]):
            is_text = 'string="true"' in one[2]
            schema: JsonValue = known.get(one[1]) or ({"type": "string"} if is_text else None)
            arguments[one[1]] = typed(inner_text(one[3]), schema, guess='string="false"' in one[2])
        calls.append(call_of(name, arguments, known))
    return (tuple(calls), body[end:]) if calls else json_calls(body, schemas)


def keyed_calls(body: str, schemas: Schemas) -> Calls | None:
    """`NAME<arg_key>KEY</arg_key><arg_value>VALUE</arg_value>`: GLM 4.5 and later."""
    name = _KEYED_NAME.match(body)
    if name is None or (name[1] not in schemas and "<arg_key>" not in body and "<tool_sep>" not in body):
        return json_calls(body, schemas)
    known = schemas.get(name[1], {})
    pairs = ((one[1].strip(), one[2]) for one in _KEYED.finditer(body))
    return (_typed_call(name[1], pairs, known, guess=True),), ""


def ifm_calls(body: str, schemas: Schemas) -> Calls | None:
    """The same with marks like `<ifm|arg_key>`: K2 Horizon."""
    return keyed_calls(body.replace("<ifm|", "<").replace("</ifm|", "</"), schemas)


def _typed_call(name: str, pairs: Iterator[tuple[str, str]], known: JsonObject, *, guess: bool) -> CallText:
    return call_of(name, {key: typed(text, known.get(key), guess=guess) for key, text in pairs}, known)


def call_of(name: str, arguments: JsonObject, known: JsonObject) -> CallText:
    """A call with its arguments as JSON.

    `known`: the schemas of those that the function has.
    """
    return CallText(name, json.dumps(unwrapped(arguments, known), ensure_ascii=False))


def inner_text(text: str) -> str:
    """A value on lines of its own without the line breaks around it.

    One that begins beside its mark stays as it is.
    """
    return text[1:].removesuffix("\n") if text.startswith("\n") else text

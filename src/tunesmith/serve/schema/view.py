"""One part of a JSON schema, of any draft, in the keywords of draft 2020-12.

A keyword that is newer than the schema's draft has no meaning there, though it was most likely meant to count. Where
it narrows (`strict` off) it is held to, and where it would widen, as below `not`, it is not: an answer is valid in
both readings.
"""

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.rows.schema_document import Path, SchemaDocument

TYPES = ("null", "boolean", "number", "string", "array", "object")
MAX_VIEWS = 60_000  # looks at parts of one schema; they take about 0.6 s
TOO_MUCH_WORK = "it takes too many steps to check; make it smaller, or its 'anyOf', 'oneOf' and '$ref' fewer"
_MAP, _LIST, _ANY, _COUNT = "an object", "a list", "a schema", "a whole number of 0 or more"
_SHAPES = {
    **dict.fromkeys(("type", "const", "format", "pattern", "uniqueItems", "exclusiveMinimum", "exclusiveMaximum"), ""),
    **dict.fromkeys(("minimum", "maximum", "multipleOf"), "a number"),
    **dict.fromkeys(("properties", "patternProperties", "dependentSchemas", "dependentRequired", "dependencies"), _MAP),
    **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems", "enum", "required"), _LIST),
    **dict.fromkeys(("not", "if", "then", "else", "contains", "propertyNames", "additionalProperties"), _ANY),
    **dict.fromkeys(("unevaluatedProperties", "unevaluatedItems", "additionalItems"), _ANY),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), _COUNT),
    **dict.fromkeys(("minContains", "maxContains"), _COUNT),
    **dict.fromkeys(("$ref", "$dynamicRef", "$recursiveRef", "items"), ""),
}
_SINCE = {
    **dict.fromkeys(("const", "contains", "propertyNames"), 6),
    **dict.fromkeys(("if", "then", "else"), 7),
    **dict.fromkeys(("dependentRequired", "dependentSchemas", "minContains", "maxContains"), 2019),
    **dict.fromkeys(("unevaluatedProperties", "unevaluatedItems", "$recursiveRef"), 2019),
    **dict.fromkeys(("prefixItems", "$dynamicRef"), 2020),
}


class Unheld(Exception):
    """No answer can be held to the part at `path`, for `reason`."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(reason)
        self.path = path
        self.reason = reason


def viewed(document: SchemaDocument, node: JsonObject, *, strict: bool = False) -> JsonObject:
    """The keywords of `node` that count, in their order.

    Raises Unheld for one with a value of the wrong kind.
    """
    document.views += 1
    if document.views > MAX_VIEWS:
        raise Unheld((), TOO_MUCH_WORK)
    draft = document.draft_of(node)
    if "$ref" in node and draft <= 7:
        return {"$ref": node["$ref"]}
    view = {
        keyword: value
        for keyword, value in node.items()
        if keyword in _SHAPES and not (strict and _SINCE.get(keyword, 0) > draft)
    }
    for keyword, value in view.items():
        if (shape := _SHAPES[keyword]) and not _is_of(value, shape):
            raise Unheld(document.path(node), f"'{keyword}' must be {shape}")
    _modernize_bounds(view)
    _modernize_items(view, draft)
    _modernize_dependencies(view)
    if "if" not in view:
        view.pop("then", None), view.pop("else", None)
    if "contains" not in view:
        view.pop("minContains", None), view.pop("maxContains", None)
    return view


def _is_of(value: JsonValue, shape: str) -> bool:
    match shape:
        case "an object":
            return isinstance(value, dict)
        case "a list":
            return isinstance(value, list)
        case "a schema":
            return isinstance(value, dict | bool)
        case "a number":
            return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 and value == int(value)


def _modernize_bounds(view: JsonObject) -> None:
    """In draft 4, `exclusiveMinimum` is whether the `minimum` itself is out."""
    for exclusive, inclusive in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if (flag := view.get(exclusive)) is True and inclusive in view:
            view[exclusive] = view.pop(inclusive)
        elif isinstance(flag, bool):
            del view[exclusive]


def _modernize_items(view: JsonObject, draft: int) -> None:
    rest = view.pop("additionalItems", None)
    if isinstance(view.get("items"), list):
        view["prefixItems"] = view.pop("items")
        if rest is not None:
            view["items"] = rest
    elif draft < 2020:
        view.pop("prefixItems", None)


def _modernize_dependencies(view: JsonObject) -> None:
    given = view.pop("dependencies", None)
    for name, needed in given.items() if isinstance(given, dict) else ():
        keyword = "dependentRequired" if isinstance(needed, list) else "dependentSchemas"
        known = view.setdefault(keyword, {})
        if isinstance(known, dict):
            view[keyword] = {**known, name: needed}

"""What is not evaluated, as `additionalProperties` and `items`."""

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.rows.schema_document import REFERENCES, SchemaDocument
from tunesmith.serve.schema.view import Unheld, viewed

_DEPENDING = {"anyOf", "oneOf", "if", "dependentSchemas"}  # which of them count depends on the answer


def evaluated(document: SchemaDocument, node: JsonObject, view: JsonObject) -> JsonObject:
    """The view without the two keywords.

    Raises Unheld where what is evaluated depends on the answer.
    """
    kept = {keyword: value for keyword, value in view.items() if not keyword.startswith("unevaluated")}
    if "unevaluatedProperties" in view:
        kept = _properties(document, node, kept, view["unevaluatedProperties"])
    if "unevaluatedItems" in view and "items" not in kept:
        if kept.keys() & {*_DEPENDING, "allOf", "contains", *REFERENCES}:
            raise Unheld(document.path(node), "'unevaluatedItems' is not supported beside 'anyOf', 'allOf' and '$ref'")
        kept["items"] = view["unevaluatedItems"]
    return kept


def _properties(document: SchemaDocument, node: JsonObject, view: JsonObject, rest: JsonValue) -> JsonObject:
    found: dict[str, JsonObject] = {"properties": {}, "patternProperties": {}}
    if not _gather(document, node, view, found):
        return view
    bare: JsonObject = {keyword: names for keyword, names in found.items() if names}
    own = view.get("allOf")
    closing: JsonObject = {**bare, "additionalProperties": rest}
    return {**view, "allOf": [*(own if isinstance(own, list) else []), closing]}


def _gather(document: SchemaDocument, node: JsonObject, view: JsonObject, found: dict[str, JsonObject]) -> bool:
    """Adds the names that are evaluated; False where all are."""
    if view.keys() & _DEPENDING:
        raise Unheld(document.path(node), "'unevaluatedProperties' is not supported beside 'anyOf', 'oneOf' and 'if'")
    for keyword, names in found.items():
        listed = view.get(keyword)
        names.update(dict.fromkeys(listed if isinstance(listed, dict) else (), True))
    parts = list(view["allOf"]) if isinstance(view.get("allOf"), list) else []  # type: ignore[arg-type]
    for keyword in REFERENCES:
        if keyword in view:
            try:
                parts.append(document.resolve(node, keyword))
            except LookupError as error:
                raise Unheld(document.path(node), str(error)) from None
    inner = [(part, viewed(document, part)) for part in parts if isinstance(part, dict)]
    return "additionalProperties" not in view and all(
        "unevaluatedProperties" not in seen and _gather(document, part, seen, found) for part, seen in inner
    )

"""The schema of an eval's items, and whether a row follows it."""

import jsonschema_rs

from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject
from tunesmith.rows.tool_faults import Parameters

PARAM = "data_source_config.item_schema"
LONGEST = 300  # characters of a validator's sentence


def read_schema(schema: JsonObject, param: str = PARAM) -> Parameters:
    """The compiled schema.

    Raises InvalidRequest for one that is none, or too intricate.
    """
    try:
        return Parameters(schema)
    except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        message = f"The schema cannot be used: {str(error)[:LONGEST]}. - '{param}'"
        raise InvalidRequest(message, param=param) from error


def check_item(item: JsonObject, schema: Parameters, where: str) -> None:
    """Raises InvalidRequest for an item that does not follow the schema.

    `where`: `Row 3`.
    """
    try:
        schema.validator.validate(item)
    except jsonschema_rs.ValidationError as error:
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.instance_path)
        raise InvalidRequest(
            f"{where}: item{path} does not follow the eval's item_schema: {error.message[:LONGEST]}. Correct the row, "
            "or make an eval with another schema.",
            param="data_source.source",
            code="invalid_item",
        ) from None


def shown_schema(item_schema: JsonObject, *, with_sample: bool) -> JsonObject:
    """The schema of a whole row, as an eval shows it."""
    sample: JsonObject = {
        "type": "object",
        "properties": {"output_text": {"type": "string"}, "model": {"type": "string"}},
        "required": ["output_text"],
    }
    properties: JsonObject = {"item": item_schema}
    if with_sample:
        properties["sample"] = sample
    return {"type": "object", "properties": properties, "required": [*properties]}


def stored_schema() -> JsonObject:
    """That of stored completions: a row has their messages and their answer."""
    return {
        "type": "object",
        "properties": {
            "item": {
                "type": "object",
                "properties": {"input": {"type": "array"}, "output": {"type": "array"}, "metadata": {"type": "object"}},
                "required": ["input"],
            },
            "sample": {"type": "object", "properties": {"output_text": {"type": "string"}}},
        },
        "required": ["item", "sample"],
    }

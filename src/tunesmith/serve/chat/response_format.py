"""`response_format` of a chat request -> the schema that the answer is held to."""

from typing import cast

from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject
from tunesmith.serve.chat.schema import ANY_OBJECT, schema_fault
from tunesmith.wire.faults import missing
from tunesmith.wire.response_format import JsonSchemaFormat, ResponseFormat


def response_schema(requested: ResponseFormat | None) -> JsonObject | None:
    """The JSON schema that the answer is held to; None for text.

    Raises InvalidRequest for one that is not supported.
    """
    if requested is None or requested.type == "text":
        return None
    if requested.type == "json_object":
        return ANY_OBJECT
    if requested.json_schema is None:
        raise missing("response_format.json_schema")
    return _schema(requested.json_schema)


def _schema(json_schema: JsonSchemaFormat) -> JsonObject:
    if json_schema.definition is None:
        return ANY_OBJECT
    schema = cast(JsonObject, json_schema.definition)
    if fault := schema_fault(schema):
        message = f"Invalid schema for response_format '{json_schema.name}': {fault}."
        raise InvalidRequest(message, param="response_format.json_schema.schema", code="invalid_json_schema")
    return schema

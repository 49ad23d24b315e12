"""`response_format` of a chat request -> the schema that the answer is held to."""

from typing import cast

from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject
from tunesmith.serve.chat.schema import ANY_OBJECT, schema_fault
from tunesmith.wire.faults import missing
from tunesmith.wire.response_format import JsonSchemaFormat, ResponseFormat


def response_schema(asked: ResponseFormat | None) -> JsonObject | None:
    """The JSON schema that the answer is held to; None for text.

    Raises InvalidRequest for one that is not supported.
    """
    if asked is None or asked.type == "text":
        return None
    if asked.type == "json_object":
        return ANY_OBJECT
    if asked.json_schema is None:
        raise missing("response_format.json_schema")
    return _schema(asked.json_schema)


def _schema(asked: JsonSchemaFormat) -> JsonObject:
    if asked.definition is None:
        return ANY_OBJECT
    schema = cast(JsonObject, asked.definition)
    if fault := schema_fault(schema):
        message = f"Invalid schema for response_format '{asked.name}': {fault}."
        raise InvalidRequest(message, param="response_format.json_schema.schema", code="invalid_json_schema")
    return schema

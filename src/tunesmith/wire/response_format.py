"""`response_format` of a chat request: text, any JSON object, or JSON by a schema."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from tunesmith.wire.body import ChatBody, OpenBody
from tunesmith.wire.faults import invalid_value, missing, shown, worded

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def _schema_name(name: str) -> str:
    if not NAME.fullmatch(name):
        reason = f"{shown(name, 80)} is not 1 to 64 of the characters a-z, A-Z, 0-9, _ and -."
        raise worded(lambda param: invalid_value(param, f"Invalid '{param}': {reason}"))
    return name


class JsonSchemaFormat(ChatBody):
    """A schema for the answer, which is held to it with and without `strict`."""

    name: Annotated[str, AfterValidator(_schema_name)] = Field(
        description="1 to 64 of the characters a-z, A-Z, 0-9, _ and -; the model does not see it."
    )
    description: str | None = Field(None, description="Changes nothing: the model does not see it.")
    strict: bool | None = Field(None, description="true needs a schema; an answer follows it with and without strict.")
    definition: dict[str, object] | None = Field(
        None,
        alias="schema",
        description="JSON Schema 2020-12, or as its $schema says; unset, not strict: any object.",
    )

    @model_validator(mode="after")
    def _strictly_something(self) -> Self:
        if self.strict and self.definition is None:
            raise worded(lambda param: missing(f"{param}.schema"))
        return self


class ResponseFormat(OpenBody):
    """What an answer is held to. `json_schema` is read only where `type` says so."""

    type: Literal["text", "json_object", "json_schema"] = Field(description="text, json_object or json_schema.")
    json_schema: JsonSchemaFormat | None = Field(None, description="Read only with the type json_schema.")

    @model_validator(mode="before")
    @classmethod
    def _schema_where_it_counts(cls, given: object) -> object:
        if isinstance(given, dict) and given.get("type") != "json_schema":
            return {name: value for name, value in given.items() if name != "json_schema"}
        return given

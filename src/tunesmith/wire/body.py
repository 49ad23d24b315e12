"""What all request bodies share: reading them, their texts and metadata."""

from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Annotated, ClassVar, TypeAlias, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue, SkipJsonSchema
from pydantic_core import CoreSchema, ErrorDetails
from pydantic_core.core_schema import no_info_before_validator_function

from tunesmith.jsonvalue import JsonValue
from tunesmith.wire.faults import (
    Wording,
    chat_wording,
    demand_object,
    explain,
    fine_tuning_wording,
    unsupported,
    worded,
)

MAX_NAMES = 100  # more than any body has
MAX_PAIRS = 1000  # more than the setting max_metadata_pairs may be
BEYOND_64_BITS = 2.0**63  # whole numbers from here on may come from the parser as decimals
NULL = {"type": "null"}
NOTES = frozenset({"title", "default", "description"})  # of a schema: say nothing about its type


class Body(BaseModel):
    """A request body. A field that is not declared is refused by name.

    Errors are worded as in OpenAI's fine-tuning API.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    wording: ClassVar[Wording] = staticmethod(fine_tuning_wording)

    @model_validator(mode="before")
    @classmethod
    def _not_all_names(cls, given: object) -> object:
        """Of very many names only the first, one of which is unknown.

        Pydantic makes an error for every unknown one, which takes seconds and gigabytes for a body of millions.
        """
        if isinstance(given, dict) and len(given) > MAX_NAMES and cls.model_config.get("extra") == "forbid":
            return dict(islice(given.items(), MAX_NAMES))
        return given

    @model_validator(mode="before")
    @classmethod
    def _whole_numbers_as_sent(cls, given: object) -> object:
        if isinstance(given, dict) and any(map(_is_beyond_64_bits, given.values())):
            return {name: _as_sent(value) for name, value in given.items()}
        return given


class ChatBody(Body):
    """A body as OpenAI's chat API reads it: strict types, null counts as absent.

    Errors are worded as in that API.
    """

    model_config = ConfigDict(strict=True)

    wording: ClassVar[Wording] = staticmethod(chat_wording)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: object) -> object:
        """An unknown field stays, null or not, to be refused."""
        if not isinstance(given, dict):
            return given
        if None not in given.values():
            return given
        return {name: value for name, value in given.items() if value is not None or name not in cls._names()}

    @classmethod
    def _names(cls) -> frozenset[str]:
        return frozenset(field.alias or name for name, field in cls.model_fields.items())

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Describes optional fields as nullable, which they are."""
        found = handler(schema)
        described = handler.resolve_ref_schema(found)
        required = described.get("required", [])
        for name, field in described.get("properties", {}).items():
            if name not in required and field.keys() - NOTES and NULL not in field.get("anyOf", []):
                default = {key: field.pop(key) for key in NOTES if key in field}
                described["properties"][name] = {"anyOf": [field, NULL], **default}
        return found


class OpenBody(ChatBody):
    """A part of a chat request whose further fields change nothing."""

    model_config = ConfigDict(extra="ignore", json_schema_extra={"additionalProperties": True})


B = TypeVar("B", bound=Body)


def read(body: type[B], value: JsonValue, at: str = "") -> B:
    """The value as a `body`. Raises InvalidRequest that names the field.

    `at`: the path of the value, where it is a part of a request.
    """
    try:
        return body.model_validate(demand_object(value))
    except ValidationError as error:
        raise explain(_worst(error.errors(include_url=False)), body.wording, at) from None


def _worst(faults: list[ErrorDetails]) -> ErrorDetails:
    """An unknown name first: where one is misspelt, it also explains why another is missing."""
    return next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])


@dataclass(frozen=True, slots=True)
class Refusal:
    """Marks a field that would change the answer if it were supported.

    null and [] are harmless; any other value is refused with the reason, which is also the field's note.
    """

    reason: str

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_before_validator_function(self._check, handler(source))

    def _check(self, value: object) -> object:
        if value in (None, []):
            return None
        raise worded(partial(unsupported, reason=self.reason))


def described_as(kind: object) -> BeforeValidator:
    """Says how the OpenAPI document describes a field that is checked elsewhere."""
    return BeforeValidator(lambda value: value, json_schema_input_type=kind)


class _Ignored:
    """Marks a field that is accepted and changes nothing."""


IGNORED = _Ignored()
Ignored: TypeAlias = Annotated[object, IGNORED]
Refused: TypeAlias = SkipJsonSchema[object]


def note(field: FieldInfo) -> str:
    """What a field does here, its range and what is refused; may be empty."""
    refusal = next((mark for mark in field.metadata if isinstance(mark, Refusal)), None)
    if field.description is None and refusal is not None:
        return f"{refusal.reason[:1].upper()}{refusal.reason[1:]}"
    return field.description or ""


def whole(value: object) -> int | None:
    """The whole number that a value is; None for any other value.

    3.0 is one: JSON has one kind of number, and some programs write all of theirs so.
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _is_beyond_64_bits(value: object) -> bool:
    return type(value) is float and abs(value) >= BEYOND_64_BITS


def _as_sent(value: object) -> object:
    """A number that the parser could not hold as a whole one, as it was.

    -2^63 is held, so what became that decimal was less.
    """
    if not _is_beyond_64_bits(value):
        return value
    return -(2**63) - 1 if value == -BEYOND_64_BITS else whole(value)


def _storable(text: str) -> str:
    """What every database and every answer can hold."""
    if "\0" in text:
        raise ValueError(f"{text[:60]!r} has a NUL character in it; take it out")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError(f"{text[:60]!r} has half a surrogate pair in it; write the whole character")
    return text


def _pairs(metadata: dict[str, str] | None) -> dict[str, str] | None:
    if metadata is None:
        return None
    for key, value in metadata.items():
        if not 1 <= len(key) <= 64:
            raise ValueError(f"the key {key[:70]!r} has {len(key)} characters; it must have 1 to 64")
        if len(value) > 512:
            raise ValueError(f"the value of {key!r} has {len(value)} characters; at most 512 are kept")
    return metadata


def _not_too_many(metadata: object) -> object:
    """The setting's own limit is lower; this one is there before each pair can become an error."""
    if isinstance(metadata, dict) and len(metadata) > MAX_PAIRS:
        raise ValueError(f"{len(metadata)} pairs are given; at most {MAX_PAIRS} are kept")
    return metadata


class _FirstFault(FailFast):
    """Hashable, as a part of a union must be."""

    __hash__ = object.__hash__


FIRST_FAULT = _FirstFault()  # of a list: else pydantic makes an error for each of a million wrong items, in seconds

Text: TypeAlias = Annotated[str, AfterValidator(_storable)]
Metadata: TypeAlias = Annotated[dict[Text, Text] | None, AfterValidator(_pairs), BeforeValidator(_not_too_many)]

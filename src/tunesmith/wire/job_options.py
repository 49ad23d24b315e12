"""The key `tunesmith` of a job: options that OpenAI's request does not have.

    client.fine_tuning.jobs.create(..., extra_body={"tunesmith": {"lora_rank": 8, "schedule": "cosine"}})

What a job does not say is the server's setting of the same name; all of it is stored with the job and shown in it.
"""

from typing import cast, get_args

from pydantic import (
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from pydantic_core.core_schema import ValidationInfo

from tunesmith.jsonvalue import JsonObject
from tunesmith.settings import TARGET_SETS, Resources, TrainingOptions
from tunesmith.wire.body import whole
from tunesmith.wire.faults import shown

KEY = "tunesmith"
MOST_HELD_OUT = 0.5
LIMITS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}  # as pydantic's fields call them


class JobOptions(TrainingOptions):
    """The options of a request, each of which may be absent or null.

    Types are strict: numbers are numbers, not text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    evaluate: bool | FiniteFloat | None = Field(
        None,
        description="Whether the job ends with a verdict: base and tuned model answer rows that were not trained. "
        "true or a share (0.1): of a job without a validation file that many rows are held out; false: not even with "
        "one. Unset: with a validation file.",
    )

    resources: Resources | None = Field(
        None,
        description="What the job takes of a node of the Ray cluster: {'gpus': 1, 'cpus': 8, 'memory_gib': 64}; with "
        "'nodes': 2 of two. Unset: the server's setting ray_resources for its base.",
    )

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: object) -> object:
        return {name: value for name, value in given.items() if value is not None} if isinstance(given, dict) else given

    @field_validator("*", mode="wrap")
    @classmethod
    def _explained(cls, value: object, validate: ValidatorFunctionWrapHandler, info: ValidationInfo) -> object:
        if JobOptions.model_fields[str(info.field_name)].annotation is int and whole(value) is not None:
            value = whole(value)
        if info.field_name == "evaluate" and not isinstance(value, bool):
            return _share(value)
        try:
            return validate(value)
        except ValidationError:
            raise ValueError(f"{shown(value, 80)} is not possible: give {wanted(str(info.field_name))}") from None

    def given(self) -> JsonObject:
        """The options that the request gives, without defaults."""
        return cast(JsonObject, self.model_dump(exclude_unset=True))


def _share(value: object) -> float:
    if isinstance(value, int | float) and 0 < value <= MOST_HELD_OUT:
        return float(value)
    raise ValueError(f"{shown(value, 80)} is not possible: give {wanted('evaluate')}")


def wanted(name: str) -> str:
    """What the option `name` may be, in words."""
    if name == "evaluate":
        return f"true, false or the share of the rows to hold out, above 0 and at most {MOST_HELD_OUT}"
    if name == "resources":
        each = "an object with gpus (a share of one, or 1 to 64), cpus and memory_gib, each a number from 0 on"
        return f"{each}, and nodes (1 to 64)"
    if name == "lora_targets":
        return f"{_any_of(TARGET_SETS)}, or a list of layers' names such as ['q_proj', 'v_proj']"
    field = TrainingOptions.model_fields[name]
    if choices := get_args(field.annotation):
        return _any_of(choices)
    kind = "a whole number" if field.annotation is int else "a number"
    limits = {name: getattr(limit, name) for limit in field.metadata for name in LIMITS if hasattr(limit, name)}
    if "ge" in limits and "le" in limits:
        return f"{kind} from {limits['ge']} to {limits['le']:,}"
    return f"{kind} {' and '.join(f'{LIMITS[name]} {limit:g}' for name, limit in limits.items())}"


def _any_of(choices: tuple[str, ...]) -> str:
    *first, last = (f"'{choice}'" for choice in choices)
    return f"{', '.join(first)} or {last}"

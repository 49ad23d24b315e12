"""The key `tunesmith` of `POST /v1/fine_tuning/jobs`: what decides a run and has no place in OpenAI's request.

    client.fine_tuning.jobs.create(..., extra_body={"tunesmith": {"lora_rank": 8, "schedule": "cosine"}})

What a job does not say is the server's setting of the same name; all of it is stored with the job and shown in it.
"""

from collections.abc import Mapping
from typing import cast, get_args

from pydantic import ConfigDict, ValidationError, ValidatorFunctionWrapHandler, field_validator, model_validator
from pydantic_core.core_schema import ValidationInfo

from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.models.adapters import AdapterManifest
from tunesmith.settings import MAX_ALPHA, TARGET_SETS, Settings, TrainingOptions

KEY = "tunesmith"
LIMITS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}  # as pydantic's fields call them
LORA_ONLY = ("lora_rank", "lora_alpha", "lora_dropout", "lora_targets", "quantization")


class JobOptions(TrainingOptions):
    """As a request has them: every one may be absent or null, and numbers are numbers, not text."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: object) -> object:
        return {name: value for name, value in given.items() if value is not None} if isinstance(given, dict) else given

    @field_validator("*", mode="wrap")
    @classmethod
    def _explained(cls, value: object, validate: ValidatorFunctionWrapHandler, info: ValidationInfo) -> object:
        try:
            return validate(value)
        except ValidationError:
            raise ValueError(f"{value!r:.80} is not possible: give {wanted(str(info.field_name))}") from None

    def given(self) -> JsonObject:
        """Only what the request says."""
        return cast(JsonObject, self.model_dump(exclude_unset=True))


def wanted(name: str) -> str:
    """What the option `name` may be, in words."""
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


def resolve_options(given: JsonObject, settings: Settings, parent: AdapterManifest | None) -> JsonObject:
    """All that the job will use. `parent`: the adapter that it continues, whose shape it must have.

    Raises InvalidRequest when two of them contradict each other.
    """
    defaults = cast(JsonObject, settings.training_options().model_dump())
    if given.get("adapter", settings.adapter) == "none":
        for name in LORA_ONLY:
            if given.get(name, "none") != "none":
                raise InvalidRequest(
                    f"'{KEY}.{name}' is for LoRA, but this job's adapter is 'none': it trains all weights, of a base "
                    f"that is not quantized. Leave '{name}' out, or set '{KEY}.adapter' to 'lora'.",
                    param=f"{KEY}.{name}",
                )
        defaults["base_learning_rate"] = settings.full_learning_rate
        return {name: value for name, value in {**defaults, **given}.items() if name not in LORA_ONLY}
    if "lora_rank" in given:  # alone it changes the rank, and not how strongly the adapter acts
        scaled = settings.lora_alpha * float(str(given["lora_rank"])) / settings.lora_rank
        defaults["lora_alpha"] = min(scaled, MAX_ALPHA)
    return {**defaults, **given, **_inherited(given, parent)}


def _inherited(given: Mapping[str, JsonValue], parent: AdapterManifest | None) -> JsonObject:
    """A job that goes on from an adapter has its rank, its scale and its layers."""
    if parent is None:
        return {}
    targets: list[JsonValue] = list(parent.target_modules)
    shape: JsonObject = {"lora_rank": parent.rank, "lora_alpha": parent.alpha, "lora_targets": targets}
    for name, value in shape.items():
        asked = given.get(name, value)
        if isinstance(asked, str):  # a set of layers: the trainer knows the base's, and compares
            shape[name] = asked
        elif _sorted(asked) != _sorted(value):
            raise InvalidRequest(
                f"'{KEY}.{name}' is {asked!r}, but the tuned model that this job continues has {value!r}. Leave it "
                "out, or start from the base; 'adapter': 'none' would merge that model's LoRA and train all weights.",
                param=f"{KEY}.{name}",
            )
    return shape


def _sorted(value: JsonValue) -> JsonValue:
    return sorted(value, key=str) if isinstance(value, list) else value


def _any_of(choices: tuple[str, ...]) -> str:
    *first, last = (f"'{choice}'" for choice in choices)
    return f"{', '.join(first)} or {last}"

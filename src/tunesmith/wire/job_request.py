"""The request body of `POST /v1/fine_tuning/jobs`, checked field by field before anything is written.

Source of names and ranges: OpenAI's API description, `CreateFineTuningJobRequest`. A field that is
not here is refused by name.

Not covered: what needs the database or the registry (files, models); `jobs.py` looks those up.
"""

from typing import Annotated, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from tunesmith.store.ids import suffix_slug
from tunesmith.wire.job_options import JobOptions


def _storable(text: str) -> str:
    """What every database and every answer can hold."""
    if "\0" in text:
        raise ValueError(f"{text[:60]!r} has a NUL character in it; take it out")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError(f"{text[:60]!r} has half a surrogate pair in it; write the whole character")
    return text


Text: TypeAlias = Annotated[str, AfterValidator(_storable)]
Auto: TypeAlias = Literal["auto"]
MAX_SEED = 2**31 - 1
MAX_INTEGRATIONS = 5


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _auto_int(low: int, high: int) -> BeforeValidator:
    def check(value: object) -> object:
        if value is None or value == "auto":
            return "auto"
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{value!r} is neither a whole number nor 'auto'")
        return _in_range(value, low, high)

    return BeforeValidator(check)


def _auto_float(high: float) -> BeforeValidator:
    def check(value: object) -> object:
        if value is None or value == "auto":
            return "auto"
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{value!r} is neither a number nor 'auto'")
        if not 0 < value <= high:  # false for NaN too
            raise ValueError(f"{value} is out of range: it must be above 0 and at most {high:g}")
        return float(value)

    return BeforeValidator(check)


def _in_range(value: int, low: int, high: int) -> int:
    if value < low:
        raise ValueError(f"{value} is less than the minimum of {low}")
    if value > high:
        raise ValueError(f"{value} is greater than the maximum of {high}")
    return value


class Hyperparameters(Strict):
    """OpenAI's description gives the multiplier no upper end; 1000 x the base rate can only be a slip."""

    batch_size: Annotated[Auto | int, _auto_int(1, 256)] = "auto"
    learning_rate_multiplier: Annotated[Auto | float, _auto_float(1000.0)] = "auto"
    n_epochs: Annotated[Auto | int, _auto_int(1, 50)] = "auto"


class PreferenceHyperparameters(Hyperparameters):
    beta: Annotated[Auto | float, _auto_float(2.0)] = "auto"


class SupervisedMethod(Strict):
    hyperparameters: Hyperparameters | None = None


class PreferenceMethod(Strict):
    hyperparameters: PreferenceHyperparameters | None = None


def _method_name(name: object) -> object:
    if name not in ("supervised", "dpo", "reinforcement"):
        raise ValueError(f"{name!r:.60} is not a method of this server; give 'supervised' or 'dpo'")
    return name


class Method(Strict):
    """`reinforcement` is read as it comes: it is refused by name, so its insides need no shape."""

    type: Annotated[Literal["supervised", "dpo", "reinforcement"], BeforeValidator(_method_name)]
    supervised: SupervisedMethod | None = None
    dpo: PreferenceMethod | None = None
    reinforcement: dict[str, object] | None = None

    @model_validator(mode="after")
    def _only_its_own_settings(self) -> "Method":
        others = [n for n in ("supervised", "dpo", "reinforcement") if n != self.type and getattr(self, n) is not None]
        if others:
            raise ValueError(f"type is '{self.type}', but settings for '{others[0]}' are given; leave one of them out")
        return self

    def hyperparameters(self) -> Hyperparameters | None:
        chosen = self.dpo if self.type == "dpo" else self.supervised
        return chosen.hyperparameters if chosen else None


def _pairs(metadata: dict[str, str] | None) -> dict[str, str] | None:
    if metadata is None:
        return None
    for key, value in metadata.items():
        if not 1 <= len(key) <= 64:
            raise ValueError(f"the key {key[:70]!r} has {len(key)} characters; it must have 1 to 64")
        if len(value) > 512:
            raise ValueError(f"the value of {key!r} has {len(value)} characters; at most 512 are kept")
    return metadata


Metadata: TypeAlias = Annotated[dict[Text, Text] | None, AfterValidator(_pairs)]


class Wandb(Strict):
    """Weights & Biases' own limit for names is 128 characters, for tags 64."""

    project: Text = Field(min_length=1, max_length=128)
    name: Text | None = Field(None, max_length=128)
    entity: Text | None = Field(None, max_length=128)
    tags: list[Annotated[Text, Field(min_length=1, max_length=64)]] = []


def _integration_name(name: object) -> object:
    if name != "wandb":
        raise ValueError(f"{name!r:.60} is not an integration of this server; there is 'wandb'")
    return name


class Integration(Strict):
    type: Annotated[Literal["wandb"], BeforeValidator(_integration_name)]
    wandb: Wandb


class CreateJob(Strict):
    model: Text = Field(min_length=1)
    training_file: Text
    validation_file: Text | None = None
    suffix: Text | None = None
    seed: int | None = None
    hyperparameters: Hyperparameters | None = None
    method: Method | None = None
    integrations: list[Integration] | None = Field(None, max_length=MAX_INTEGRATIONS)
    metadata: Metadata = None
    tunesmith: JobOptions | None = None

    @field_validator("training_file", "validation_file", mode="before")
    @classmethod
    def _file(cls, file_id: object, info: ValidationInfo) -> object:
        if isinstance(file_id, str) or (file_id is None and info.field_name == "validation_file"):
            return file_id
        raise PydanticCustomError("as_recorded", "invalid {name}: {value}", {"name": info.field_name, "value": file_id})

    @field_validator("suffix")
    @classmethod
    def _suffix(cls, suffix: str | None) -> str | None:
        if suffix is None:
            return None
        if suffix and not suffix_slug(suffix):
            raise ValueError(f"{suffix!r} has no letter and no digit, so no model name can be made of it")
        return suffix

    @field_validator("seed", mode="before")
    @classmethod
    def _seed(cls, seed: object) -> object:
        if seed is None:
            return None
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise ValueError(f"{seed!r} is not a whole number")
        return _in_range(seed, 0, MAX_SEED)

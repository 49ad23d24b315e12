"""Fine-tuning jobs: the request, and what is shown of a job.

A request is checked field by field before anything is written. Source of names and ranges: OpenAI's API description,
`CreateFineTuningJobRequest`.

Not covered: what needs the database or the registry (files, models); the route looks those up.
"""

from typing import Annotated, Literal, NotRequired, TypeAlias

from pydantic import (
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from typing_extensions import TypedDict

from tunesmith.errors import InvalidRequest
from tunesmith.settings import TrainingOptions
from tunesmith.wire.body import FIRST_FAULT, Body, Metadata, Text, whole
from tunesmith.wire.faults import shown, worded
from tunesmith.wire.job_options import KEY, JobOptions
from tunesmith.wire.limits import MAX_BATCH_SIZE, MAX_BETA, MAX_EPOCHS, MAX_MULTIPLIER
from tunesmith.wire.lists import Anything

Auto: TypeAlias = Literal["auto"]
MAX_SEED = 2**31 - 1
MAX_INTEGRATIONS = 5
MAX_TAGS = 32  # of a run; a job shows them


def _auto_int(low: int, high: int) -> BeforeValidator:
    def check(value: object) -> object:
        if value is None or value == "auto":
            return "auto"
        number = whole(value)
        if number is None:
            raise ValueError(f"{shown(value)} is neither a whole number nor 'auto'")
        return _in_range(number, low, high)

    return BeforeValidator(check)


def _auto_float(high: float) -> BeforeValidator:
    def check(value: object) -> object:
        if value is None or value == "auto":
            return "auto"
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{shown(value)} is neither a number nor 'auto'")
        if not 0 < value <= high:  # false for NaN too
            raise ValueError(f"{shown(value)} is out of range: it must be above 0 and at most {high:g}")
        return float(value)

    return BeforeValidator(check)


def _in_range(value: int, low: int, high: int) -> int:
    if value < low:
        raise ValueError(f"{shown(value)} is less than the minimum of {low}")
    if value > high:
        raise ValueError(f"{shown(value)} is greater than the maximum of {high}")
    return value


class Hyperparameters(Body):
    """What a job may set. The bounds are OpenAI's, but for one.

    Its description gives the multiplier no upper bound; 1000 times the base rate can only be a mistake.
    """

    batch_size: Annotated[Auto | int, _auto_int(1, MAX_BATCH_SIZE)] = Field(
        "auto", description=f"auto, or 1 to {MAX_BATCH_SIZE} rows."
    )
    learning_rate_multiplier: Annotated[Auto | float, _auto_float(MAX_MULTIPLIER)] = Field(
        "auto", description="auto, or above 0 and at most 1000; multiplies base_learning_rate."
    )
    n_epochs: Annotated[Auto | int, _auto_int(1, MAX_EPOCHS)] = Field(
        "auto", description=f"auto, or 1 to {MAX_EPOCHS}."
    )


class PreferenceHyperparameters(Hyperparameters):
    """What a DPO job may set."""

    beta: Annotated[Auto | float, _auto_float(MAX_BETA)] = Field(
        "auto", description=f"auto, or above 0 and at most {MAX_BETA:g}."
    )


class SupervisedMethod(Body):
    """The settings of `supervised`."""

    hyperparameters: Hyperparameters | None = Field(
        None, description="As at the top level; where both places have the same one, they must agree."
    )


class PreferenceMethod(Body):
    """The settings of `dpo`."""

    hyperparameters: PreferenceHyperparameters | None = Field(
        None, description="As at the top level, and beta; where both places have the same one, they must agree."
    )


def _method_name(name: object) -> object:
    if name not in ("supervised", "dpo", "reinforcement"):
        raise ValueError(f"{name!r:.60} is not a method of this server; give 'supervised' or 'dpo'")
    return name


class Method(Body):
    """How to train.

    `reinforcement` is refused by name, so what is in it needs no shape.
    """

    type: Annotated[Literal["supervised", "dpo", "reinforcement"], BeforeValidator(_method_name)] = Field(
        description="supervised or dpo; reinforcement is refused (method_not_available)."
    )
    supervised: SupervisedMethod | None = Field(None, description="Only with the type supervised.")
    dpo: PreferenceMethod | None = Field(None, description="Only with the type dpo.")
    reinforcement: dict[str, object] | None = Field(None, description="This method is not available.")

    @model_validator(mode="after")
    def _only_its_own_settings(self) -> "Method":
        others = [n for n in ("supervised", "dpo", "reinforcement") if n != self.type and getattr(self, n) is not None]
        if others:
            raise ValueError(f"type is '{self.type}', but settings for '{others[0]}' are given; leave one of them out")
        return self

    def hyperparameters(self) -> Hyperparameters | None:
        """Those of the chosen method."""
        chosen = self.dpo if self.type == "dpo" else self.supervised
        return chosen.hyperparameters if chosen else None


class Wandb(Body):
    """Weights & Biases' own limit for names is 128 characters, for tags 64."""

    project: Text = Field(min_length=1, max_length=128, description="1 to 128 characters.")
    name: Text | None = Field(
        None, max_length=128, description="Of the run, at most 128 characters; unset: the job's id."
    )
    entity: Text | None = Field(None, max_length=128, description="User or team, at most 128 characters.")
    tags: Annotated[list[Annotated[Text, Field(min_length=1, max_length=64)]], FIRST_FAULT] = Field(
        default_factory=list,
        max_length=MAX_TAGS,
        description="Up to 32 of 1 to 64 characters; three of ours are added.",
    )


def _integration_name(name: object) -> object:
    if name != "wandb":
        raise ValueError(f"{name!r:.60} is not an integration of this server; there is 'wandb'")
    return name


class Integration(Body):
    """Where metrics go. There is Weights & Biases."""

    type: Annotated[Literal["wandb"], BeforeValidator(_integration_name)] = Field(description="wandb.")
    wandb: Wandb = Field(description="Where in Weights & Biases the run goes; the API key is the worker's.")


class CreateJob(Body):
    """The body of `POST /v1/fine_tuning/jobs`."""

    model: Text = Field(
        min_length=1, description="A base, an alias of one, or a tuned model, which is then trained further."
    )
    training_file: Text = Field(description="The id of a file with the purpose fine-tune.")
    validation_file: Text | None = Field(None, description="The same, or null.")
    suffix: Text | None = Field(
        None,
        description="1 to 64 characters (max_suffix_chars); lower-cased in the model's name, with dashes for other "
        "characters.",
    )
    seed: int | None = Field(None, description="0 to 2147483647; unset: a random one. The job shows it.")
    hyperparameters: Hyperparameters | None = Field(
        None, description="auto is decided when the training file has been read."
    )
    method: Method | None = Field(None, description="How to train; unset: supervised.")
    integrations: Annotated[list[Integration], FIRST_FAULT] | None = Field(
        None, max_length=MAX_INTEGRATIONS, description="Up to five; metrics are sent there while the job trains."
    )
    metadata: Metadata = Field(None, description="Up to 16 pairs, keys of 1 to 64 characters, values of at most 512.")
    tunesmith: JobOptions | None = Field(
        None,
        description="LoRA, schedule and optimizer options of this job: any of the settings that docs/settings.md lists "
        "under 'Per job'.",
    )

    @field_validator("training_file", "validation_file", mode="before")
    @classmethod
    def _file(cls, file_id: object, info: ValidationInfo) -> object:
        if isinstance(file_id, str) or (file_id is None and info.field_name == "validation_file"):
            return file_id
        raise worded(
            lambda param: InvalidRequest(f"invalid {param}: {file_id!s:.200}", param=param)
        )  # OpenAI's recorded words

    @field_validator("seed", mode="before")
    @classmethod
    def _seed(cls, seed: object) -> object:
        if seed is None:
            return None
        number = whole(seed)
        if number is None:
            raise ValueError(f"{shown(seed)} is not a whole number")
        return _in_range(number, 0, MAX_SEED)


JobState: TypeAlias = Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]
EventType: TypeAlias = Literal["message", "metrics", "moderation_checks"]


class JobError(TypedDict):
    """Why a job failed."""

    code: str
    param: str | None
    message: str


class TunedHyperparameters(TypedDict):
    """`auto` until the training file has been read."""

    n_epochs: int | Literal["auto"]
    batch_size: int | Literal["auto"]
    learning_rate_multiplier: float | Literal["auto"]
    beta: NotRequired[float | Literal["auto"]]


class MethodSettings(TypedDict):
    """What a method has, under its name."""

    hyperparameters: TunedHyperparameters


class JobMethod(TypedDict):
    """The method and, under its name, its settings."""

    type: Literal["supervised", "dpo"]
    supervised: NotRequired[MethodSettings]
    dpo: NotRequired[MethodSettings]


class Job(TypedDict):
    """A job, in the recorded key order, and our own options at the end."""

    object: Literal["fine_tuning.job"]
    id: str
    model: str
    created_at: int
    finished_at: int | None
    fine_tuned_model: str | None
    organization_id: str
    result_files: list[str]
    status: JobState
    validation_file: str | None
    training_file: str
    hyperparameters: TunedHyperparameters
    trained_tokens: int | None
    error: JobError | None
    user_provided_suffix: str | None
    seed: int
    estimated_finish: int | None
    integrations: list[Anything]
    metadata: dict[str, str] | None
    usage_metrics: None
    shared_with_openai: Literal[False]
    eval_id: None
    method: JobMethod
    tunesmith: Anything


class Event(TypedDict):
    """Something that happened to a job."""

    object: Literal["fine_tuning.job.event"]
    id: str
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    data: Anything | None
    type: EventType


class Checkpoint(TypedDict):
    """A model that a job kept on its way."""

    object: Literal["fine_tuning.job.checkpoint"]
    id: str
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    metrics: Anything
    step_number: int


def hint_about_unknown(param: str) -> str:
    """Where our own options belong, for a parameter that is unknown.

    OpenAI's requests do not have them.
    """
    inside, name = param.startswith(f"{KEY}."), param.rpartition(".")[2]
    if name in TrainingOptions.model_fields:
        return f" It is an option of this server: send it as {{'{KEY}': {{'{name}': …}}}} (extra_body of the client)."
    if inside and name in Hyperparameters.model_fields:
        return " It is one of OpenAI's: send it under 'hyperparameters'."
    return f" '{KEY}' may have: {', '.join(JobOptions.model_fields)}." if inside else ""

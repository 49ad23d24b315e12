"""The form of a new job: its fields, and the request that they make."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast, get_args

from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.settings import Settings, TrainingOptions

HYPERPARAMETERS = ("n_epochs", "batch_size", "learning_rate_multiplier", "beta")
OPTIONS = tuple(TrainingOptions.model_fields)
METHODS = ("supervised", "dpo")
WANDB = ("wandb_project", "wandb_name", "wandb_entity", "wandb_tags")
MOST_PAIRS = 16  # of metadata, as the API takes them
PAIRS = tuple((f"metadata_key_{n}", f"metadata_value_{n}") for n in range(1, MOST_PAIRS + 1))
FIELDS = (
    "model",
    "method",
    "training_file",
    "validation_file",
    "suffix",
    "seed",
    *HYPERPARAMETERS,
    *OPTIONS,
    "evaluate",
    "metadata",
    *WANDB,
)
_WHOLE, _NUMBER = re.compile(r"[+-]?\d{1,18}"), re.compile(r"[+-]?(\d++(?:\.\d*+)?|\.\d++)([eE][+-]?\d{1,3})?")


@dataclass(frozen=True, slots=True)
class Option:
    """A training option.

    `default` is what it is if the form leaves it empty, `choices` what it may be where these are few.
    """

    name: str
    default: str
    choices: tuple[str, ...]


def options(settings: Settings) -> list[Option]:
    """The training options, with this server's settings as their defaults."""
    values = settings.training_options().model_dump()
    return [
        Option(name, spelled(values[name]), tuple(map(str, get_args(TrainingOptions.model_fields[name].annotation))))
        if name != "lora_targets"
        else Option(name, spelled(values[name]), ())
        for name in OPTIONS
    ]


def request_of(form: Mapping[str, str]) -> JsonObject:
    """The body of the request that a form makes; what is left empty is not in it.

    A number that is none goes as text, so that the API says what it would take. Raises InvalidRequest for what no
    request can say: two pairs of metadata with one key.
    """
    given = {name: form[name].strip() for name in FIELDS if form.get(name, "").strip()}
    method = given.get("method", "supervised")
    numbers: JsonObject = {name: _value(given[name]) for name in HYPERPARAMETERS if name in given}
    if method != "dpo":
        numbers.pop("beta", None)
    body: JsonObject = {
        name: given[name] for name in ("model", "training_file", "validation_file", "suffix") if name in given
    }
    body["method"] = {"type": method, method: {"hyperparameters": numbers}}
    if "seed" in given:
        body["seed"] = _value(given["seed"])
    body |= _metadata(form) | _integrations(given)
    extra: JsonObject = {name: _option(name, given[name]) for name in (*OPTIONS, "evaluate") if name in given}
    return {**body, "tunesmith": extra} if extra else body


def form_of(job: JsonObject, settings: Settings) -> dict[str, str]:
    """The form that would create this job again.

    Options that are the server's settings are left empty.
    """
    method = cast(JsonObject, job["method"])
    numbers = cast(JsonObject, job["hyperparameters"])
    used = cast(JsonObject, job.get("tunesmith") or {})
    defaults = settings.training_options().model_dump()
    kept = {name: value for name, value in used.items() if name in FIELDS and defaults.get(name) != value}
    if used.get("adapter") == "none":
        kept.pop("base_learning_rate", None) if used.get("base_learning_rate") == settings.full_learning_rate else None
    flat: JsonObject = {
        **{name: job[name] for name in ("model", "training_file", "validation_file", "seed")},
        "suffix": job["user_provided_suffix"],
        "method": method["type"],
        **{name: value for name, value in numbers.items() if value != "auto"},
        **kept,
        **_pairs_of(job),
        **_wandb_of(job),
    }
    return {name: spelled(value) for name, value in flat.items() if value is not None}


def field_of(param: str | None, code: str | None = None) -> str:
    """The field that a refusal's `param` names; `form` for the request as a whole.

    An unknown model has OpenAI's answer, which names no field.
    """
    parts = ["model"] if param is None and code == "model_not_available" else (param or "").split(".")
    if parts[0].startswith("integrations"):
        parts = [f"wandb_{part.partition('[')[0]}" for part in parts]
    return next((part for part in reversed(parts) if part in FIELDS), "form")


def label_of(name: str) -> str:
    """The key of a field's label."""
    return f"option.{name}" if name in (*HYPERPARAMETERS, *OPTIONS) else f"new_job.{name}"


def spelled(value: JsonValue) -> str:
    """A value as a field of the form has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _metadata(form: Mapping[str, str]) -> JsonObject:
    """The pairs that are filled in; one without a key goes as it is, so that the API says what it would take."""
    pairs: JsonObject = {}
    for key_field, value_field in PAIRS:
        key, value = form.get(key_field, "").strip(), form.get(value_field, "").strip()
        if not (key or value):
            continue
        if key in pairs:
            raise InvalidRequest(f"The metadata has the key {key[:64]!r} twice. Give each key once.", param="metadata")
        pairs[key] = value
    return {"metadata": pairs} if pairs else {}


def _pairs_of(job: JsonObject) -> JsonObject:
    kept = cast(dict[str, str], job.get("metadata") or {})
    pairs = zip(PAIRS, kept.items(), strict=False)
    return {field: text for fields, pair in pairs for field, text in zip(fields, pair, strict=True)}


def _integrations(given: Mapping[str, str]) -> JsonObject:
    """Weights & Biases, where one of its fields is filled in."""
    wandb: JsonObject = {name.removeprefix("wandb_"): given[name] for name in WANDB if name in given}
    if not wandb:
        return {}
    if "wandb_tags" in given:
        wandb["tags"] = [part.strip() for part in given["wandb_tags"].split(",") if part.strip()]
    return {"integrations": [{"type": "wandb", "wandb": wandb}]}


def _wandb_of(job: JsonObject) -> JsonObject:
    """The first of the job's integrations: a form has one."""
    for one in cast(list[JsonObject], job.get("integrations") or []):
        kept = cast(JsonObject, one["wandb"])
        return {name: kept.get(name.removeprefix("wandb_")) or None for name in WANDB}
    return {}


def _option(name: str, text: str) -> JsonValue:
    if name == "evaluate":
        return text == "true" if text in ("true", "false") else _value(text)
    if name == "lora_targets" and "," in text:
        return [part.strip() for part in text.split(",")]
    return text if name == "lora_targets" else _value(text)


def _value(text: str) -> JsonValue:
    """A number where the text is one."""
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text

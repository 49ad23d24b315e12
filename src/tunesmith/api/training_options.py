"""The training options of a job, from its request, the settings and its parent."""

from collections.abc import Mapping
from typing import cast

from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.models.adapters import AdapterManifest
from tunesmith.settings import LORA_ONLY, MAX_ALPHA, Settings
from tunesmith.wire.job_options import KEY

NOTHING = {"quantization": "none", "matmul_precision": "float32"}  # what these are where all weights are trained


def requested_evaluation(given: JsonObject, validation_file: str | None) -> JsonObject:
    """The option `evaluate`, taken out of `given`; empty where it is not there.

    Raises InvalidRequest for a share of rows to hold out beside a validation file.
    """
    if "evaluate" not in given:
        return {}
    asked = given.pop("evaluate")
    if validation_file is not None and not isinstance(asked, bool):
        raise InvalidRequest(
            f"'{KEY}.evaluate' is {asked!r}, a share of the training file to hold out, but the job has a validation "
            f"file. Give one of them; a job with a validation file is evaluated on that.",
            param=f"{KEY}.evaluate",
        )
    return {"evaluate": asked}


def requested_resources(given: JsonObject, settings: Settings, base: str) -> JsonObject:
    """The option `resources`, taken out of `given`, with defaults.

    Empty where it is not there.     Raises InvalidRequest where jobs do not run on a cluster.
    """
    if "resources" not in given:
        return {}
    asked = cast(JsonObject, given.pop("resources"))
    if settings.launcher == "child":
        raise InvalidRequest(
            f"'{KEY}.resources' is for servers whose jobs train on a Ray cluster; this one trains on its own machine "
            "(setting launcher). Leave it out.",
            param=f"{KEY}.resources",
        )
    return {"resources": {**settings.resources_of(base).model_dump(), **asked}}


def resolve_options(given: JsonObject, settings: Settings, parent: AdapterManifest | None) -> JsonObject:
    """All options that the job will use.

    `parent`: the adapter that it continues, whose shape it must have.

    Raises InvalidRequest when two of them contradict each other.
    """
    defaults = cast(JsonObject, settings.training_options().model_dump())
    if given.get("adapter", settings.adapter) == "none":
        for name in LORA_ONLY:
            if name in given and given[name] != NOTHING.get(name):
                raise InvalidRequest(
                    f"'{KEY}.{name}' is for LoRA, but this job's adapter is 'none': it trains all weights, "
                    f"as they are. Leave '{name}' out, or set '{KEY}.adapter' to 'lora'.",
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
        requested = given.get(name, value)
        if isinstance(requested, str):  # a set of layers: the trainer knows the base's, and compares
            shape[name] = requested
        elif _sorted(requested) != _sorted(value):
            raise InvalidRequest(
                f"'{KEY}.{name}' is {requested!r}, but the tuned model that this job continues has {value!r}. Leave it "
                "out, or start from the base; 'adapter': 'none' would merge that model's LoRA and train all weights.",
                param=f"{KEY}.{name}",
            )
    return shape


def _sorted(value: JsonValue) -> JsonValue:
    return sorted(value, key=str) if isinstance(value, list) else value

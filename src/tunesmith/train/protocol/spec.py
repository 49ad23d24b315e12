"""The contract between the worker, which writes `spec.json`, and the trainer.

Imports no torch.
"""

import json
import re
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Literal, cast, get_type_hints

from pydantic import TypeAdapter, ValidationError

from tunesmith.errors import InvalidRequest
from tunesmith.estimate.hyperparameters import AUTO_MULTIPLIER, TARGET_EPOCHS
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.settings import DEVICES, Sharding, TrainingOptions
from tunesmith.system.atomic_write import write_atomically
from tunesmith.train.protocol import old_spec

Method = Literal["supervised", "dpo"]

PATHS = ("base_dir", "training_file", "output_dir", "init_adapter_dir", "validation_file")


class SpecError(InvalidRequest):
    """A spec that cannot be trained; `param` names the field."""


@dataclass(frozen=True, slots=True)
class TrainSpec:
    """One training run.

    Nothing else (settings, environment) changes the result on one machine's processor; a GPU adds some sums in an order
    of its own.
    """

    job_id: str
    base_name: str
    base_dir: Path
    training_file: Path
    output_dir: Path
    attempt: int = 1
    init_adapter_dir: Path | None = None  # the tuned model that this job continues
    validation_file: Path | None = None
    training_sha256: str | None = None  # of the file's bytes; None: the trainer reads the file to know it
    validation_sha256: str | None = None
    method: Method = "supervised"
    n_epochs: int = TARGET_EPOCHS
    batch_size: int = 1  # rows per optimizer step
    learning_rate_multiplier: float = AUTO_MULTIPLIER
    beta: float | None = None  # DPO
    seed: int = 0
    max_tokens: int | None = None  # per row; longer rows are cut at the end
    options: TrainingOptions = field(default_factory=TrainingOptions)
    device: str = "auto"  # or cpu, cuda, cuda:1
    threads: int = 0  # 0 = all cores
    nice: int = 0
    keep_checkpoints: int = 3
    checkpoint_seconds: float = 120.0  # between saves of the progress; 0 = only at epoch ends
    validate_every: int = 0  # steps; 0 = chosen by the trainer
    micro_batch_tokens: int = 0  # distinct tokens per forward pass; 0 = chosen from the available memory
    weights: Literal["auto", "float32"] = "auto"  # auto: in memory as they are stored in 16 bits, with the same result
    blocked_weights: bool | None = None  # repack the frozen weights for the fastest products; None = where it pays
    packing: bool = True  # False = the reference path, on padded rows
    sharding: Sharding = "auto"  # whether several ranks share the weights out among them

    def __post_init__(self) -> None:
        _require(self.method in ("supervised", "dpo"), "method", self.method, "'supervised' or 'dpo'")
        _require(self.n_epochs >= 1, "n_epochs", self.n_epochs, "at least 1")
        _require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        multiplier = self.learning_rate_multiplier
        _require(multiplier > 0, "learning_rate_multiplier", multiplier, "above 0")
        _require(self.max_tokens is None or self.max_tokens >= 2, "max_tokens", self.max_tokens, "at least 2")
        frozen, quantization = self.options.adapter == "lora", self.options.quantization
        precision, where = self.options.matmul_precision, "where all weights are trained (adapter 'none')"
        _require(frozen or quantization == "none", "quantization", quantization, f"'none' {where}")
        _require(frozen or precision == "float32", "matmul_precision", precision, f"'float32' {where}")
        _require(self.keep_checkpoints >= 1, "keep_checkpoints", self.keep_checkpoints, "at least 1")
        known = re.fullmatch(DEVICES, self.device) is not None
        _require(known, "device", self.device, "auto, cpu, cuda, or one of several GPUs, such as cuda:1")
        _require(self.beta is None or self.beta > 0, "beta", self.beta, "above 0")

    @property
    def learning_rate(self) -> float:
        """The rate at the schedule's peak."""
        return self.options.base_learning_rate * self.learning_rate_multiplier

    def to_json(self) -> JsonObject:
        """The spec as `from_json` reads it."""
        value = {item.name: _plain(getattr(self, item.name)) for item in fields(self)}
        return {**value, "options": self.options.model_dump(mode="json")}

    @classmethod
    def from_json(cls, value: JsonValue) -> "TrainSpec":
        """Reads a spec, also one of a release before `options`.

        Raises SpecError naming the field that is missing, unknown or out of range.
        """
        if not isinstance(value, dict):
            raise SpecError(f"A training spec is a JSON object, not {type(value).__name__}.")
        if not isinstance(value.get("lora", {}), dict):
            raise SpecError(f"lora is {value['lora']!r}; it has to be an object.", param="lora")
        unknown_lora = old_spec.unknown_lora_fields(value)
        if unknown_lora:
            raise SpecError(f"lora has unknown fields: {', '.join(unknown_lora)}.", param=f"lora.{unknown_lora[0]}")
        given: dict[str, object] = dict(old_spec.upgraded(value))
        unknown = sorted(set(given) - {item.name for item in fields(cls)})
        if unknown:
            raise SpecError(f"The training spec has unknown fields: {', '.join(unknown)}.", param=unknown[0])
        for name in PATHS:
            if isinstance(given.get(name), str):
                given[name] = Path(str(given[name]))
        if "options" in given:
            given["options"] = _options(cast(JsonValue, given["options"]))
        _check_types(given)
        try:
            return cls(**given)  # type: ignore[arg-type]  # names and types are checked above, values in __post_init__
        except TypeError as error:
            raise SpecError(f"The training spec is incomplete: {error}.") from error

    @classmethod
    def read(cls, path: Path) -> "TrainSpec":
        """Reads a spec from its file; SpecError where it cannot be read or trained."""
        try:
            return cls.from_json(json.loads(path.read_text("utf-8")))
        except (OSError, ValueError, RecursionError) as error:
            raise SpecError(f"The training spec {path} cannot be read: {error}.") from error

    def write(self, path: Path) -> None:
        """Writes the spec where `read` finds it."""
        write_atomically(path, json.dumps(self.to_json(), ensure_ascii=False, indent=2).encode())


def _options(value: JsonValue) -> TrainingOptions:
    if not isinstance(value, dict):
        raise SpecError(f"options is a JSON object, not {type(value).__name__}.", param="options")
    unknown = sorted(set(value) - set(TrainingOptions.model_fields))
    if unknown:
        raise SpecError(f"options has unknown fields: {', '.join(unknown)}.", param=f"options.{unknown[0]}")
    try:
        return TrainingOptions.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        name = first["loc"][0]
        raise SpecError(f"{name} is {first['input']!r}: {first['msg']}.", param=f"options.{name}") from error


def _check_types(given: dict[str, object]) -> None:
    """Checks only: a converted value, such as 2.0 for 2, would change the run's fingerprint."""
    for name, value in given.items():
        try:
            _field_types()[name].validate_python(value, strict=True)
        except ValidationError as error:
            raise SpecError(f"{name} is {value!r}: {error.errors()[0]['msg']}.", param=name) from error


@cache
def _field_types() -> dict[str, TypeAdapter[object]]:
    return {name: TypeAdapter(kind) for name, kind in get_type_hints(TrainSpec).items()}


def _plain(value: object) -> JsonValue:
    return str(value) if isinstance(value, Path) else cast(JsonValue, value)


def _require(holds: bool, name: str, value: object, wanted: str) -> None:
    if not holds:
        raise SpecError(f"{name} is {value!r}; it has to be {wanted}.", param=name)

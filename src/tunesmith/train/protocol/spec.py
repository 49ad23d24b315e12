"""The contract between the worker, which writes `spec.json`, and the trainer, which reads it. Imports no torch."""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal, cast

from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.settings import AdapterKind, Quantization, Schedule

Method = Literal["supervised", "dpo"]

ALL_LINEAR: tuple[str, ...] = ("all-linear",)


class SpecError(InvalidRequest):
    """A spec that cannot be trained; `param` names the field."""


@dataclass(frozen=True, slots=True)
class LoraSpec:
    """The adapter's shape. `targets` are names of linear modules, or one of `("all-linear",)`: all but the output head,

    `("attention",)`, `("mlp",)`.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ALL_LINEAR

    @property
    def scaling(self) -> float:
        return self.alpha / self.rank


@dataclass(frozen=True, slots=True)
class TrainSpec:
    """One training run, complete: nothing else (settings, environment) changes the result on one machine."""

    job_id: str
    base_name: str
    base_dir: Path
    training_file: Path
    output_dir: Path
    attempt: int = 1
    init_adapter_dir: Path | None = None  # the tuned model that this job continues
    validation_file: Path | None = None
    method: Method = "supervised"
    n_epochs: int = 3
    batch_size: int = 1  # rows per optimizer step
    learning_rate: float = 2e-4  # absolute, at the schedule's top
    learning_rate_multiplier: float = 2.0  # only reported; learning_rate already has it
    beta: float | None = None  # DPO
    seed: int = 0
    max_tokens: int | None = None  # per row; longer rows are cut at the end
    adapter: AdapterKind = "lora"  # "none": all weights are trained
    lora: LoraSpec = field(default_factory=LoraSpec)
    quantization: Quantization = "none"  # of the frozen base
    warmup_ratio: float = 0.03  # of all steps
    schedule: Schedule = "linear"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0  # 0 = no clipping
    threads: int = 0  # 0 = all cores
    nice: int = 0
    keep_checkpoints: int = 3
    checkpoint_seconds: float = 120.0  # between saves of the progress; 0 = only at epoch ends
    validate_every: int = 0  # steps; 0 = chosen by the trainer
    micro_batch_tokens: int = 0  # distinct tokens per forward pass; 0 = chosen from the memory at hand
    blocked_weights: bool | None = None  # the frozen weights laid out for the fastest products; None = by their use
    packing: bool = True  # False = the plain padded path

    def __post_init__(self) -> None:
        _require(self.method in ("supervised", "dpo"), "method", self.method, "'supervised' or 'dpo'")
        _require(
            self.schedule in ("linear", "cosine", "constant"), "schedule", self.schedule, "linear, cosine or constant"
        )
        _require(self.n_epochs >= 1, "n_epochs", self.n_epochs, "at least 1")
        _require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        _require(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        _require(self.max_tokens is None or self.max_tokens >= 2, "max_tokens", self.max_tokens, "at least 2")
        _require(self.lora.rank >= 1, "lora.rank", self.lora.rank, "at least 1")
        _require(self.lora.alpha > 0, "lora.alpha", self.lora.alpha, "above 0")
        _require(0 <= self.lora.dropout < 1, "lora.dropout", self.lora.dropout, "at least 0 and below 1")
        _require(len(self.lora.targets) > 0, "lora.targets", self.lora.targets, "a set of layers, or names of layers")
        _require(self.adapter in ("lora", "none"), "adapter", self.adapter, "'lora' or 'none'")
        _require(self.quantization in ("none", "nf4"), "quantization", self.quantization, "'none' or 'nf4'")
        frozen = self.adapter == "lora" or self.quantization == "none"
        _require(frozen, "quantization", self.quantization, "'none' where all weights are trained (adapter 'none')")
        _require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "at least 0")
        _require(self.max_grad_norm >= 0, "max_grad_norm", self.max_grad_norm, "at least 0 (0: no clipping)")
        _require(0 <= self.warmup_ratio <= 1, "warmup_ratio", self.warmup_ratio, "between 0 and 1")
        _require(self.keep_checkpoints >= 1, "keep_checkpoints", self.keep_checkpoints, "at least 1")
        _require(self.beta is None or self.beta > 0, "beta", self.beta, "above 0")

    def to_json(self) -> JsonObject:
        value = asdict(self)
        return {key: _plain(item) for key, item in value.items()}

    @classmethod
    def from_json(cls, value: JsonValue) -> "TrainSpec":
        """Raises SpecError naming the field that is missing, unknown or out of range."""
        if not isinstance(value, dict):
            raise SpecError(f"A training spec is a JSON object, not {type(value).__name__}.")
        known = {item.name for item in fields(cls)}
        unknown = sorted(set(value) - known)
        if unknown:
            raise SpecError(f"The training spec has unknown fields: {', '.join(unknown)}.", param=unknown[0])
        given: dict[str, object] = dict(value)
        for name in ("base_dir", "training_file", "output_dir", "init_adapter_dir", "validation_file"):
            if given.get(name) is not None:
                given[name] = Path(str(given[name]))
        if isinstance(given.get("lora"), dict):
            given["lora"] = _lora(cast(dict[str, object], given["lora"]))
        try:
            return cls(**given)  # type: ignore[arg-type]  # names are checked above, values in __post_init__
        except TypeError as error:
            raise SpecError(f"The training spec is incomplete: {error}.") from error

    @classmethod
    def read(cls, path: Path) -> "TrainSpec":
        try:
            return cls.from_json(json.loads(path.read_text("utf-8")))
        except (OSError, ValueError) as error:
            raise SpecError(f"The training spec {path} cannot be read: {error}.") from error

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(self.to_json(), ensure_ascii=False, indent=2), "utf-8")


def _lora(value: dict[str, object]) -> LoraSpec:
    unknown = sorted(set(value) - {item.name for item in fields(LoraSpec)})
    if unknown:
        raise SpecError(f"lora has unknown fields: {', '.join(unknown)}.", param=f"lora.{unknown[0]}")
    targets = value.get("targets", ALL_LINEAR)
    names = (targets,) if isinstance(targets, str) else tuple(cast(list[str], targets))
    return LoraSpec(**{**value, "targets": names})  # type: ignore[arg-type]


def _plain(value: object) -> JsonValue:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return cast(JsonValue, value)


def _require(holds: bool, name: str, value: object, wanted: str) -> None:
    if not holds:
        raise SpecError(f"{name} is {value!r}; it has to be {wanted}.", param=name)

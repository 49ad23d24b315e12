"""The shape that `spec.json` had until its training options became one field.

A job that was started before an update is read in this shape, and the fingerprint of a run is computed from it, so that
the progress of such a job is found again.
"""

from contextlib import suppress
from typing import TYPE_CHECKING, cast

from tunesmith.jsonvalue import JsonObject, JsonValue

if TYPE_CHECKING:
    from tunesmith.train.protocol.spec import TrainSpec

SAME_NAME = ("adapter", "quantization", "warmup_ratio", "schedule", "weight_decay", "max_grad_norm")
LORA = {"rank": "lora_rank", "alpha": "lora_alpha", "dropout": "lora_dropout", "targets": "lora_targets"}
DEFAULT_RATE, DEFAULT_MULTIPLIER = 2e-4, 2.0  # where an old spec named none
UNCHANGED = (
    "init_adapter_dir",
    "method",
    "n_epochs",
    "batch_size",
    "learning_rate_multiplier",
    "beta",
    "seed",
    "max_tokens",
    "threads",
    "validate_every",
    "micro_batch_tokens",
    "blocked_weights",
    "packing",
)


def upgraded(value: JsonObject) -> JsonObject:
    """The spec in today's shape; `value` itself where it has that."""
    old = {"lora", "learning_rate", *SAME_NAME} & value.keys()
    if not old or "options" in value:
        return value
    options = {name: value[name] for name in SAME_NAME if name in value}
    options |= {LORA[name]: item for name, item in cast(JsonObject, value.get("lora") or {}).items()}
    rate, multiplier = (
        value.get("learning_rate", DEFAULT_RATE),
        value.get("learning_rate_multiplier", DEFAULT_MULTIPLIER),
    )
    if isinstance(rate, int | float) and isinstance(multiplier, int | float) and multiplier:
        with suppress(OverflowError):  # such a number is refused later, by its name
            rate = rate / multiplier  # it was a product with it, which division gives back to the bit
    options["base_learning_rate"] = rate
    return {**{name: item for name, item in value.items() if name not in old}, "options": options}


def unknown_lora_fields(value: JsonObject) -> list[str]:
    """Names in an old spec's `lora` that it never had."""
    lora = value.get("lora")
    return sorted(set(lora) - set(LORA)) if isinstance(lora, dict) else []


def fingerprinted(spec: "TrainSpec") -> JsonObject:
    """What decides a run's result, in the old shape, without its files."""
    options = spec.options
    lora: JsonObject = {
        "rank": options.lora_rank,
        "alpha": options.lora_alpha,
        "dropout": options.lora_dropout,
        "targets": list(options.target_names),
    }
    value = spec.to_json()
    kept: JsonObject = {name: value[name] for name in ("base_name", *UNCHANGED)}
    same: JsonObject = {name: cast(JsonValue, getattr(options, name)) for name in SAME_NAME}
    if options.matmul_precision != "float32":  # which no release before it had
        same["matmul_precision"] = options.matmul_precision
    return {**kept, **same, "lora": lora, "learning_rate": spec.learning_rate}

"""What "auto" means, and the limits of what may be asked for. Pure rules over the number of examples.

Sources: the epoch rule is the published data-preparation notebook's; batch size follows OpenAI's older reference text
(about 0.2 % of the examples, at most 256) and is 1 in every small real job; the multiplier 2 is what its jobs report.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject, JsonValue

TARGET_EPOCHS = 3
MIN_TARGET_EXAMPLES, MAX_TARGET_EXAMPLES = 100, 25_000
MIN_DEFAULT_EPOCHS, MAX_DEFAULT_EPOCHS = 1, 25
BATCH_SHARE = 0.002
MAX_BATCH_SIZE = 256
MAX_EPOCHS = 50
AUTO_MULTIPLIER = 2.0
AUTO_BETA = 0.1
MAX_BETA = 2.0


class HasExamples(Protocol):
    @property
    def examples(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """Numbers only. `learning_rate_multiplier` multiplies the settings' base rate; `beta` is DPO's."""

    n_epochs: int
    batch_size: int
    learning_rate_multiplier: float
    beta: float | None = None

    def to_json(self) -> JsonObject:
        """As the job object shows them: `beta` only where the method has one."""
        found: JsonObject = {
            "n_epochs": self.n_epochs,
            "batch_size": self.batch_size,
            "learning_rate_multiplier": self.learning_rate_multiplier,
        }
        return found if self.beta is None else {**found, "beta": self.beta}


def resolve_hyperparameters(
    requested: Mapping[str, JsonValue] | None, report: HasExamples, method: str = "supervised"
) -> Hyperparameters:
    """Numbers for all that is "auto", null or missing; InvalidRequest names what is out of range."""
    asked = requested or {}
    examples = report.examples
    return Hyperparameters(
        n_epochs=_whole(asked, "n_epochs", MAX_EPOCHS) or auto_epochs(examples),
        batch_size=_whole(asked, "batch_size", MAX_BATCH_SIZE) or auto_batch_size(examples),
        learning_rate_multiplier=_positive(asked, "learning_rate_multiplier", None) or AUTO_MULTIPLIER,
        beta=(_positive(asked, "beta", MAX_BETA) or AUTO_BETA) if method == "dpo" else None,
    )


def auto_epochs(examples: int) -> int:
    """3, unless that shows the model fewer than 100 or more than 25,000 examples in all."""
    if examples <= 0:
        return TARGET_EPOCHS
    if examples * TARGET_EPOCHS < MIN_TARGET_EXAMPLES:
        return min(MAX_DEFAULT_EPOCHS, MIN_TARGET_EXAMPLES // examples)
    if examples * TARGET_EPOCHS > MAX_TARGET_EXAMPLES:
        return max(MIN_DEFAULT_EPOCHS, MAX_TARGET_EXAMPLES // examples)
    return TARGET_EPOCHS


def auto_batch_size(examples: int) -> int:
    return max(1, min(MAX_BATCH_SIZE, round(examples * BATCH_SHARE)))


def _whole(asked: Mapping[str, JsonValue], name: str, maximum: int) -> int | None:
    value = asked.get(name)
    if value is None or value == "auto":
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= maximum:
        raise InvalidRequest(
            f"{name} is {value!r}; give a whole number from 1 to {maximum}, or 'auto'.", param=f"hyperparameters.{name}"
        )
    return value


def _positive(asked: Mapping[str, JsonValue], name: str, maximum: float | None) -> float | None:
    value = asked.get(name)
    if value is None or value == "auto":
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 < float(str(value)) <= (maximum if maximum is not None else 1e6):
        span = "a number above 0" + (f", at most {maximum:g}" if maximum is not None else "")
        raise InvalidRequest(f"{name} is {value!r}; give {span}, or 'auto'.", param=f"hyperparameters.{name}")
    return float(str(value))

"""What "auto" means, and the limits of what may be requested.

Pure rules over what the check has counted.

Sources: the epoch rule is the published data-preparation notebook's; batch size follows OpenAI's older reference text
(about 0.2 % of the examples, at most 256) and is 1 in every small real job; the multiplier 2 is what its jobs report.
A larger batch where rows share a long system message is ours: see "What auto chooses" in docs/training.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.wire.limits import MAX_BATCH_SIZE, MAX_BETA, MAX_EPOCHS, MAX_MULTIPLIER

TARGET_EPOCHS = 3
MIN_TARGET_EXAMPLES, MAX_TARGET_EXAMPLES = 100, 25_000
MIN_DEFAULT_EPOCHS, MAX_DEFAULT_EPOCHS = 1, 25
BATCH_SHARE = 0.002
SHARED_FROM = 0.5  # of the tokens are one system message: from here on a batch above 1 pays
SHARED_BATCHES = (8, 4, 2)
LEAST_STEPS = 60  # that a larger batch has to leave to the whole run
AUTO_MULTIPLIER = 2.0
LEAST_MULTIPLIER = 0.01  # OpenAI's guides try 0.02 to 2; what is far below is a learning rate in the wrong place
AUTO_BETA = 0.1  # the DPO paper's


class HasExamples(Protocol):
    """The part of a report that "auto" depends on."""

    @property
    def examples(self) -> int:
        """The number of examples."""
        ...

    @property
    def shared_share(self) -> float:
        """The share of the commonest system message in all tokens, from 0 to 1."""
        ...


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """A job's hyperparameters, all of them as numbers.

    `learning_rate_multiplier` multiplies the settings' base rate; `beta` is DPO's.
    """

    n_epochs: int
    batch_size: int
    learning_rate_multiplier: float
    beta: float | None = None

    def to_json(self) -> JsonObject:
        """The numbers as the job object shows them; `beta` only where the method has one."""
        found: JsonObject = {
            "n_epochs": self.n_epochs,
            "batch_size": self.batch_size,
            "learning_rate_multiplier": self.learning_rate_multiplier,
        }
        return found if self.beta is None else {**found, "beta": self.beta}


def resolve_hyperparameters(
    requested: Mapping[str, JsonValue] | None, report: HasExamples, method: str = "supervised", ranks: int = 1
) -> Hyperparameters:
    """Numbers for all that is "auto", null or missing.

    `ranks`: how many processes share the rows of a step. Raises InvalidRequest, which names what is out of range.
    """
    given = requested or {}
    examples = report.examples
    epochs = _whole(given, "n_epochs", MAX_EPOCHS) or auto_epochs(examples)
    alone = max(auto_batch_size(examples), shared_batch_size(examples * epochs, report.shared_share))
    return Hyperparameters(
        n_epochs=epochs,
        batch_size=_whole(given, "batch_size", MAX_BATCH_SIZE) or batch_for_ranks(alone, examples, ranks),
        learning_rate_multiplier=_positive(given, "learning_rate_multiplier", MAX_MULTIPLIER) or AUTO_MULTIPLIER,
        beta=(_positive(given, "beta", MAX_BETA) or AUTO_BETA) if method == "dpo" else None,
    )


def auto_epochs(examples: int) -> int:
    """3, or more for few examples and fewer for many.

    The model is shown at least 100 and at most 25,000 examples in all.
    """
    if examples <= 0:
        return TARGET_EPOCHS
    if examples * TARGET_EPOCHS < MIN_TARGET_EXAMPLES:
        return min(MAX_DEFAULT_EPOCHS, MIN_TARGET_EXAMPLES // examples)
    if examples * TARGET_EPOCHS > MAX_TARGET_EXAMPLES:
        return max(MIN_DEFAULT_EPOCHS, MAX_TARGET_EXAMPLES // examples)
    return TARGET_EPOCHS


def auto_batch_size(examples: int) -> int:
    """0.2 % of the examples, from 1 to 256."""
    return max(1, min(MAX_BATCH_SIZE, round(examples * BATCH_SHARE)))


def shared_batch_size(rows: int, shared_share: float) -> int:
    """The largest batch that a shared system message makes worthwhile, else 1.

    `rows` are those of all epochs.
    """
    if shared_share < SHARED_FROM:
        return 1
    return next((size for size in SHARED_BATCHES if rows >= LEAST_STEPS * size), 1)


def batch_for_ranks(batch_size: int, examples: int, ranks: int) -> int:
    """The least batch from `batch_size` on of which every rank has rows.

    In every step, the last of an epoch too. It is less than twice what is needed; where there are fewer examples
    than ranks, all of them.
    """
    if ranks == 1 or examples <= 0:
        return batch_size
    least = max(batch_size, min(ranks, examples))
    sizes = range(least, min(2 * least, examples, MAX_BATCH_SIZE) + 1)
    return next((size for size in sizes if examples % size == 0 or examples % size >= ranks), least)


def batch_reason(
    requested: Mapping[str, JsonValue] | None, report: HasExamples, chosen: Hyperparameters, ranks: int = 1
) -> str | None:
    """Why "auto" chose a larger batch; else None.

    For the sake of a shared system message, or of several ranks.
    """
    batch_size = (requested or {}).get("batch_size")
    if batch_size not in (None, "auto") or chosen.batch_size <= auto_batch_size(report.examples):
        return None
    if ranks > 1 and chosen.batch_size > shared_batch_size(report.examples * chosen.n_epochs, report.shared_share):
        return (
            f"batch_size 'auto' is {chosen.batch_size}, so that each of {ranks} ranks has rows in every step. Give "
            "batch_size a number to have it otherwise."
        )
    return (
        f"batch_size 'auto' is {chosen.batch_size}: {report.shared_share:.0%} of the tokens are one system message, "
        f"which a step of {chosen.batch_size} rows computes once. Give batch_size a number to have it otherwise."
    )


def require_multiplier(multiplier: float) -> None:
    """Raises InvalidRequest for a multiplier that no job takes."""
    _positive({"learning_rate_multiplier": multiplier}, "learning_rate_multiplier", MAX_MULTIPLIER)


def rate_warning(multiplier: float, base_rate: float) -> str | None:
    """The warning about a multiplier that looks like a learning rate, or None."""
    if multiplier >= LEAST_MULTIPLIER or multiplier <= 0:  # the latter is refused
        return None
    return (
        f"learning_rate_multiplier {multiplier:g} gives a learning rate of {multiplier * base_rate:.2g} ({multiplier:g}"
        f" x the base rate {base_rate:g}), which changes next to nothing. If {multiplier:g} was meant as the learning"
        f" rate itself, give {multiplier / base_rate:.2g}; 'auto' is {AUTO_MULTIPLIER:g}."
    )


def _whole(given: Mapping[str, JsonValue], name: str, maximum: int) -> int | None:
    value = given.get(name)
    if value is None or value == "auto":
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= maximum:
        raise InvalidRequest(
            f"{name} is {value!r}; give a whole number from 1 to {maximum}, or 'auto'.", param=f"hyperparameters.{name}"
        )
    return value


def _positive(given: Mapping[str, JsonValue], name: str, maximum: float | None) -> float | None:
    value = given.get(name)
    if value is None or value == "auto":
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 < float(str(value)) <= (maximum if maximum is not None else 1e6):
        span = "a number above 0" + (f", at most {maximum:g}" if maximum is not None else "")
        raise InvalidRequest(f"{name} is {value!r}; give {span}, or 'auto'.", param=f"hyperparameters.{name}")
    return float(str(value))

"""What a job would be, in the numbers and reasons that its form shows."""

from dataclasses import dataclass, field
from typing import cast

from tunesmith.estimate.hyperparameters import MAX_TARGET_EXAMPLES, MIN_TARGET_EXAMPLES, TARGET_EPOCHS, rate_warning
from tunesmith.jsonvalue import JsonObject
from tunesmith.store import NewJob
from tunesmith.web.views.job_form import HYPERPARAMETERS, OPTIONS, label_of, spelled


@dataclass(frozen=True, slots=True)
class Auto:
    """The number that "auto" takes, and why.

    `reason` is the key of a text, and `values` are what it has in it.
    """

    value: str
    reason: str
    values: dict[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """A job before it is created.

    `faults` are sentences by field: with any of them the job would be refused. `used` are the options that it would
    train with. `seen` is what was found in the files; None where that was not looked at.
    """

    faults: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    auto: dict[str, Auto] = field(default_factory=dict)
    used: dict[str, str] = field(default_factory=dict)
    seen: JsonObject | None = None
    rate: float | None = None

    @property
    def faulty(self) -> list[tuple[str, str]]:
        """The fields with a fault, each with the key of its label."""
        return [(name, label_of(name)) for name in self.faults if name != "form"]

    @property
    def estimate(self) -> JsonObject | None:
        """The estimate as `tunesmith estimate --json` prints it."""
        return None if self.seen is None else cast(JsonObject | None, self.seen["estimate"])


def autos(seen: JsonObject, base_rate: float) -> dict[str, Auto]:
    """What "auto" takes, by hyperparameter."""
    chosen = cast(JsonObject, seen["auto"])
    rows = cast(int, seen["rows"])
    multiplier = cast(float, chosen["learning_rate_multiplier"])
    found = {
        "n_epochs": Auto(spelled(chosen["n_epochs"]), _epochs_reason(rows), {"rows": rows}),
        "batch_size": _batch(seen, rows),
        "learning_rate_multiplier": Auto(
            spelled(multiplier),
            "new_job.auto_rate",
            {"rate": f"{multiplier * base_rate:.3g}", "base": f"{base_rate:g}"},
        ),
    }
    if chosen["beta"] is not None:
        found["beta"] = Auto(spelled(chosen["beta"]), "new_job.auto_beta")
    return {name: found[name] for name in HYPERPARAMETERS if name in found}


def _epochs_reason(rows: int) -> str:
    if rows * TARGET_EPOCHS < MIN_TARGET_EXAMPLES:
        return "new_job.auto_epochs_few"
    return "new_job.auto_epochs_many" if rows * TARGET_EPOCHS > MAX_TARGET_EXAMPLES else "new_job.auto_epochs"


def _batch(seen: JsonObject, rows: int) -> Auto:
    chosen = cast(int, cast(JsonObject, seen["auto"])["batch_size"])
    if chosen > cast(int, seen["plain_batch"]):
        share = f"{cast(float, seen['shared_share']):.0%}"
        return Auto(str(chosen), "new_job.auto_batch_shared", {"share": share, "size": chosen})
    return Auto(str(chosen), "new_job.auto_batch", {"rows": rows})


def used_options(job: NewJob) -> dict[str, str]:
    """The training options with which a job would train."""
    return {name: spelled(job.options[name]) for name in OPTIONS if name in job.options}


def number_warnings(seen: JsonObject, base_rate: float) -> list[str]:
    """What the worker would say of the numbers, in its words."""
    numbers = cast(JsonObject, cast(JsonObject, seen["estimate"])["hyperparameters"])
    multiplier = cast(float, numbers["learning_rate_multiplier"])
    found = [seen["batch_reason"], rate_warning(multiplier, base_rate)]
    return [str(one) for one in found if one is not None]

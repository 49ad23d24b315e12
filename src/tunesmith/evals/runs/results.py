"""What a criterion says of one row, and what all of them say together."""

from collections.abc import Sequence

from tunesmith.evals.runs.criteria import Criterion
from tunesmith.graders.results import Record
from tunesmith.jsonvalue import JsonObject
from tunesmith.store.evals.rows import ItemState


def result(criterion: Criterion, record: Record) -> JsonObject:
    """An entry of an item's `results`; `error` says why there is no score."""
    kind = criterion.grader.type
    found: JsonObject = {
        "name": criterion.name,
        "type": kind,
        "score": record.reward,
        "passed": not record.faults and record.reward >= criterion.threshold,
        "sample": None,
    }
    if record.scores and kind == "multi":
        found["sample"] = {"scores": dict(record.scores)}
    if record.faults:
        flag = next(iter(record.faults))
        found["error"] = {"code": flag, "message": record.faults[flag]}
    return found


def state(results: Sequence[JsonObject]) -> ItemState:
    """A row passes with all criteria; one without a score makes it an error."""
    if any("error" in one for one in results):
        return "error"
    return "pass" if all(one["passed"] for one in results) else "fail"


def verdicts(results: Sequence[JsonObject]) -> tuple[bool | None, ...]:
    """Whether each criterion was passed; None for one without a score."""
    return tuple(None if "error" in one else bool(one["passed"]) for one in results)

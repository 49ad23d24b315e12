"""What a job on some files would be: its numbers, its cost, its refusals.

The reports of the last files are kept in the child, so a form that changes is answered at once.
"""

from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, cast

from tunesmith.check.file_check import CheckOptions, report_on, scan_of
from tunesmith.check.kept_scans import KeptScans
from tunesmith.check.report.file_report import Report
from tunesmith.check.report.openai_wording import first_error
from tunesmith.check.rules.file_rules import MIN_EXAMPLES
from tunesmith.check.rules.leaks import compare, index_of
from tunesmith.errors import DataError
from tunesmith.estimate.hyperparameters import (
    Hyperparameters,
    auto_batch_size,
    batch_reason,
    resolve_hyperparameters,
)
from tunesmith.estimate.job_estimate import Machine, job_tokens
from tunesmith.estimate.job_estimate import estimate as job_estimate
from tunesmith.estimate.price_file import read_price_book
from tunesmith.estimate.prices import Price
from tunesmith.estimate.speed import Benchmark, Workload
from tunesmith.estimate.verdict_time import VerdictPlan, read_pace
from tunesmith.evals.verdict.held_out import verdict_plan
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.render.renderer import Renderer, load_renderer
from tunesmith.settings import TrainingOptions
from tunesmith.train.measure import Trainers, benchmark_of, job_benchmark, speed_of_job, speed_of_ranks
from tunesmith.train.workload import workload


class Counted(NamedTuple):
    """A file, and how its rows are counted: for which base, method and encoding."""

    path: Path
    sha256: str
    kept: Path
    analysers: tuple[str, ...]
    base: Path | None
    max_tokens: int | None
    method: str
    encoding: str
    least: int


def estimate(values: JsonObject) -> JsonObject:
    """The estimate of a job on `training` and `validation`.

    With it come the sentences with which the files would be refused.
    """
    book = read_price_book(None if values["price_file"] is None else Path(str(values["price_file"])))
    price = book.require(str(values["price"]))
    training = _counted(values, "training", price.encoding, MIN_EXAMPLES)
    validation = None if values["validation"] is None else _counted(values, "validation", price.encoding, 1)
    report, checked = _report(training), None if validation is None else _report(validation)
    refusals = [_refusal(report, "training_file")]
    refusals += [] if checked is None else [_refusal(checked, "validation_file")]
    pace = read_pace(Path(str(values["root"])), str(values["base_name"]))
    rows = None if checked is None else checked.examples
    plan = verdict_plan(cast("float | None", values["evaluate"]), report.examples, rows, pace)
    found: JsonObject = {
        "rows": report.examples,
        "cut": report.counts.get("over_limit", 0),
        "max_tokens": report.max_tokens,
        "refusals": [one for one in refusals if one is not None],
        "leaks": 0 if validation is None else _leaks(training, validation),
        "verdict_rows": None if plan is None else plan.rows,
        "estimate": None,
    }
    if any(refusals) or (plan is not None and plan.held_out >= report.sound_rows):
        return found
    return {**found, **_numbers(values, training, (report, plan), (price, book.machine.hourly()))}


def _numbers(
    values: JsonObject,
    file: Counted,
    rows: tuple[Report, VerdictPlan | None],
    money: tuple[Price, float | None],
) -> JsonObject:
    """The estimate, and what explains its numbers.

    `rows`: the file's, and those of the verdict. `money`: OpenAI's price, and an hour of this machine.
    """
    (report, plan), (price, hourly) = rows, money
    requested = cast(JsonObject, values["hyperparameters"])
    ranks = int(str(values["ranks"]))
    numbers = resolve_hyperparameters(requested, report, file.method, ranks)
    machine = Machine(*_speed(values, file, report, numbers), hourly)
    return {
        "estimate": job_estimate(report, numbers, price, machine, plan).to_json(),
        "shared_share": report.shared_share,
        "auto": asdict(resolve_hyperparameters(None, report, file.method, ranks)),
        "plain_batch": auto_batch_size(report.examples),
        "batch_reason": batch_reason(requested, report, numbers, ranks),
    }


def _counted(values: JsonObject, name: str, encoding: str, least: int) -> Counted:
    file = cast(JsonObject, values[name])
    return Counted(
        path=Path(str(file["path"])),
        sha256=str(file["sha256"]),
        kept=Path(str(values["kept"])),
        analysers=tuple(str(one) for one in cast(list[JsonValue], values["analysers"])),
        base=None if values["base"] is None else Path(str(values["base"])),
        max_tokens=None if values["max_tokens"] is None else int(str(values["max_tokens"])),
        method=str(values["method"]),
        encoding=encoding,
        least=least,
    )


@lru_cache(maxsize=8)
def _report(file: Counted) -> Report:
    options = CheckOptions(
        renderer=None if file.base is None else _renderer(file.base),
        max_tokens=file.max_tokens,
        method=file.method,
        encoding=file.encoding,
        analysers=file.analysers,
        min_examples=file.least,
    )
    return report_on(file.path, scan_of(file.path, options, KeptScans(file.kept).of(file.sha256)), options)


@lru_cache(maxsize=8)
def _leaks(training: Counted, validation: Counted) -> int:
    """How many rows of the validation file are in the training file, exactly or nearly."""
    options = [
        CheckOptions(method=one.method, encoding=one.encoding, analysers=one.analysers)
        for one in (training, validation)
    ]
    indexes = [
        index_of(one.path, scan_of(one.path, how, KeptScans(one.kept).of(one.sha256)))
        for one, how in zip((training, validation), options, strict=True)
    ]
    found = compare(*indexes)
    return len(found.exact) + len(found.near)


def _refusal(report: Report, param: str) -> JsonObject | None:
    """What is wrong with a file, in our words: OpenAI's are about a job that has failed."""
    first = first_error(report.errors)
    if first is None:
        return None
    others = report.error_count - 1
    more = f" ({others:,} more error{'s' if others > 1 else ''} in this file.)" if others else ""
    said = str(first)
    return {"message": said[0].upper() + said[1:] + more, "param": param}


def _speed(
    values: JsonObject, file: Counted, report: Report, numbers: Hyperparameters
) -> tuple[Benchmark | None, Workload | None]:
    """How fast this machine trains, as it was measured or in its latest job, and what it would compute."""
    if file.base is None or report.base is None:
        return None, None
    options, threads = TrainingOptions.model_validate(values["options"]), int(str(values["threads"]))
    name, cache, root = str(values["base_name"]), Path(str(values["cache"])), Path(str(values["root"]))
    speed = benchmark_of(cache, name, file.base, options=options, threads=threads, measure=False)
    speed = speed or job_benchmark(root, name, options, threads)
    speed = speed_of_job(speed, file.base, options, *job_tokens(report, numbers))
    speed = speed_of_ranks(speed, root, name, options, Trainers(threads, int(str(values["ranks"]))))
    return speed, None if speed is None else _work(file, report.base.tokens, numbers.batch_size)


@lru_cache(maxsize=16)
def _work(file: Counted, tokens: int, batch_size: int) -> Workload | None:
    if file.base is None:
        return None
    try:
        return workload(
            file.path,
            _renderer(file.base),
            method="dpo" if file.method == "dpo" else "supervised",
            max_tokens=file.max_tokens,
            batch_size=batch_size,
            epoch_tokens=tokens,
        )
    except DataError:  # the first rows do not tell; all tokens are taken to be computed
        return None


@lru_cache(maxsize=2)
def _renderer(base: Path) -> Renderer:
    return load_renderer(base)

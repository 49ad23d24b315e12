"""The first phase of a job: its files are checked, and "auto" becomes numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tunesmith.check.file_check import CheckOptions, report_on, scan_of
from tunesmith.check.kept_scans import KeptScans
from tunesmith.check.report.file_report import Report
from tunesmith.check.report.openai_wording import job_error
from tunesmith.check.report.system_message import common_system_message
from tunesmith.check.rules.file_rules import MIN_EXAMPLES
from tunesmith.check.rules.leaks import Index, index_of
from tunesmith.check.scan.file_scan import FileScan
from tunesmith.errors import DataError
from tunesmith.estimate.hyperparameters import batch_reason, rate_warning, resolve_hyperparameters
from tunesmith.families.lora_layers import lora_share
from tunesmith.models.directory import context_length, materialise
from tunesmith.models.options_check import check_options
from tunesmith.models.registry import resolve_base
from tunesmith.moderation.scan_analyser import job_analysers
from tunesmith.render.renderer import Renderer, load_renderer
from tunesmith.settings import LORA_ONLY, Resources, Settings, TrainingOptions
from tunesmith.store import FileRow, JobFiles, JobRow, JobStatus, Lease, NewEvent, Store
from tunesmith.worker.data_warnings import leak_notices, moderation_notices
from tunesmith.worker.evaluation import demand_rows, split_of

LEAST_EXAMPLES = {"training_file": MIN_EXAMPLES, "validation_file": 1}


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """A file that the job may train on.

    Where it is, what the pass over it found, and the report.
    """

    path: Path
    scan: FileScan
    report: Report

    @property
    def index(self) -> Index:
        """The index of its rows, to be compared with those of another file."""
        return index_of(self.path, self.scan)


def validate_job(store: Store, settings: Settings, job: JobRow, lease: Lease) -> None:
    """Moves the job to `queued`.

    Raises DataError with the wire's code and param when it has to fail.
    """
    announce = _announcement(job)
    if announce not in store.jobs.messages(job.id):  # a worker that died in here has said it already
        store.queue.append(lease, [NewEvent(announce)])
    files = require_files(store, job)
    unreached = _check_options(settings, job)
    training = _check(store, settings, job, "training_file", files)
    demand_rows(job, training.report.examples, MIN_EXAMPLES)
    notices = [*unreached, *_notices(training.report, "training")]
    validation = None if job.validation_file is None else _check(store, settings, job, "validation_file", files)
    if validation is not None:
        notices += _notices(validation.report, "validation")
    notices += _data_warnings(store, settings, job, training, validation)
    asked, ranks = job.hyperparameters, ranks_of(job, settings)
    numbers = resolve_hyperparameters(asked, training.report, str(job.method["type"]), ranks)
    if reason := batch_reason(asked, training.report, numbers, ranks):
        notices.append(NewEvent(reason))
    warning = rate_warning(numbers.learning_rate_multiplier, job_options(job, settings).base_learning_rate)
    notices += [NewEvent(warning, level="warn")] if warning else []
    store.queue.set_status(
        lease,
        JobStatus.QUEUED,
        [*notices, NewEvent("Files validated, moving job to queued state")],
        hyperparameters=numbers.to_json(),
        system_message=_system_message(store, job, training),
    )


def require_files(store: Store, job: JobRow) -> dict[str, FileRow]:
    """The job's files, by the parameters that name them.

    Raises DataError (`deleted_training_file`) when one is gone.
    """
    given = [param for param in LEAST_EXAMPLES if getattr(job, param) is not None]
    return {param: _require_file(store, job, param) for param in given}


def _require_file(store: Store, job: JobRow, param: str) -> FileRow:
    file = store.files.for_job(getattr(job, param))
    if file is None:
        which = param.removesuffix("_file")
        raise DataError(f"The job failed because the {which} file was deleted", param=param, code=f"deleted_{param}")
    return file


@dataclass(frozen=True, slots=True)
class TrainedFiles:
    """The files that a trainer is given, and their digests.

    A digest is None where there is no file, or the trainer computes it.
    """

    training: Path
    training_sha256: str | None
    validation: Path | None
    validation_sha256: str | None


def trained_files(store: Store, settings: Settings, job: JobRow, rows: Mapping[str, FileRow]) -> TrainedFiles:
    """The job's files (`rows`), or the two parts of its training file.

    The latter where a share of it is held out for the evaluation.
    """
    split = split_of(store, settings, job)
    if split is not None:
        return TrainedFiles(split.training, None, split.held_out, None)
    folder = JobFiles(settings.paths.jobs, job.id).directory
    validation = None if job.validation_file is None else store.files.copy_for_job(job.validation_file, folder)
    sums = {param: row.sha256 for param, row in rows.items()}
    training = store.files.copy_for_job(job.training_file, folder)
    return TrainedFiles(training, sums["training_file"], validation, sums.get("validation_file"))


def row_limit(base_dir: Path, settings: Settings) -> int:
    """The most tokens of a row that are trained.

    That is the base's context, or less where the settings say so.
    """
    return min(context_length(base_dir), settings.max_example_tokens or context_length(base_dir))


def _check(store: Store, settings: Settings, job: JobRow, param: str, files: Mapping[str, FileRow]) -> CheckedFile:
    """The file checked for the job's base and method. Its rows are read again only where the upload's pass is gone."""
    file = files[param]
    base_dir = materialise(resolve_base(job.base_model, settings), settings)
    options = CheckOptions(
        renderer=_renderer(base_dir, (base_dir / "tokenizer.json").stat().st_mtime_ns),
        base_totals=False,
        max_tokens=row_limit(base_dir, settings),
        method=str(job.method["type"]),
        analysers=job_analysers(settings),
        min_examples=LEAST_EXAMPLES[param],
    )
    try:
        path = store.files.copy_for_job(file.id, JobFiles(settings.paths.jobs, job.id).directory)
        scan = scan_of(path, options, KeptScans(settings.paths.checks).of(file.sha256))
        report = report_on(path, scan, options)
    except FileNotFoundError:  # deleted while we looked
        require_files(store, job)
        raise
    error = job_error(report, param, file_id=file.id)
    if error is not None:
        raise DataError(str(error["message"]), param=param, code=str(error["code"]))
    return CheckedFile(path, scan, report)


def _check_options(settings: Settings, job: JobRow) -> list[NewEvent]:
    """What only the base and this machine can tell, before the job waits for its turn."""
    options = job_options(job, settings)
    base_dir = materialise(resolve_base(job.base_model, settings), settings)
    check_options(options, base_dir, job.base_model, here=settings.launcher == "child")
    if options.adapter != "lora":
        return []
    notice = lora_share(base_dir, options.target_names).notice
    return [] if notice is None else [NewEvent(notice, level="warn")]


def job_options(job: JobRow, settings: Settings) -> TrainingOptions:
    """The job's training options, as they were when it was created.

    A changed setting does not change a job under way.
    """
    given, plain = job.options, TrainingOptions().model_dump()
    missing = {**settings.training_options().model_dump(), "matmul_precision": "float32"}  # in jobs of earlier versions
    if given.get("adapter", missing["adapter"]) == "none":
        missing |= {name: plain[name] for name in LORA_ONLY}
    return TrainingOptions.model_validate({**missing, **given})


def resources_of(job: JobRow, settings: Settings) -> Resources:
    """What the job takes of a cluster's node: as it asks, else by its base."""
    given = job.options.get("resources")
    default = settings.resources_of(job.base_model)
    return Resources.model_validate({**default.model_dump(), **given}) if isinstance(given, dict) else default


def ranks_of(job: JobRow, settings: Settings) -> int:
    """The number of the job's ranks, on this machine or on all its nodes of a cluster."""
    if settings.launcher == "child":
        return settings.train_ranks
    resources = resources_of(job, settings)
    return resources.nodes * resources.ranks_of_node(settings.train_ranks)


def _data_warnings(
    store: Store, settings: Settings, job: JobRow, training: CheckedFile, validation: CheckedFile | None
) -> list[NewEvent]:
    try:
        found = moderation_notices(training.path, training.scan, settings)
        if validation is not None:
            found += leak_notices(training.index, validation.index)
    except FileNotFoundError:  # deleted while we looked
        require_files(store, job)
        raise
    return found


def _system_message(store: Store, job: JobRow, training: CheckedFile) -> str | None:
    try:
        return common_system_message(training.path, training.scan.rows)
    except FileNotFoundError:  # deleted while we looked
        require_files(store, job)
        raise


def _notices(report: Report, which: str) -> list[NewEvent]:
    """What the user must know of a sound file: rows of which not all is trained."""
    cut = report.counts.get("over_limit", 0)
    if not cut:
        return []
    rows, verb = ("1 row", "exceeds") if cut == 1 else (f"{cut} rows", "exceed")
    text = f"{rows} of the {which} file {verb} {report.max_tokens} tokens; what is beyond is cut off"
    return [NewEvent(text, level="warn")]


@lru_cache(maxsize=4)  # reading a tokenizer takes half a second; a changed file is read again
def _renderer(base_dir: Path, _modified: int) -> Renderer:
    return load_renderer(base_dir)


def _announcement(job: JobRow) -> str:
    rest = "" if job.validation_file is None else f" and validation file: {job.validation_file}"
    return f"Validating training file: {job.training_file}{rest}"

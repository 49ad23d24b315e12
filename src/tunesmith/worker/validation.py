"""The first phase of a job: its files are checked as they will be trained, and "auto" becomes numbers."""

from functools import lru_cache
from pathlib import Path

from tunesmith.check.file_check import check_file
from tunesmith.check.report.file_report import Report
from tunesmith.check.report.openai_wording import job_error
from tunesmith.errors import DataError
from tunesmith.estimate.hyperparameters import batch_reason, resolve_hyperparameters
from tunesmith.families.lora_layers import check_targets, linear_paths
from tunesmith.models.directory import context_length, materialise
from tunesmith.models.registry import resolve_base
from tunesmith.models.weights import require_nf4
from tunesmith.render.renderer import Renderer, load_renderer
from tunesmith.settings import Settings, TrainingOptions
from tunesmith.store import JobRow, JobStatus, Lease, NewEvent, Store
from tunesmith.worker.data_warnings import leak_notices, moderation_notices

MIN_EXAMPLES = {"training_file": 10, "validation_file": 1}


def validate_job(store: Store, settings: Settings, job: JobRow, lease: Lease) -> None:
    """Moves the job to `queued`. Raises DataError with the wire's code and param when it has to fail."""
    announce = _announcement(job)
    if announce not in store.jobs.messages(job.id):  # a worker that died in here has said it already
        store.queue.append(lease, [NewEvent(announce)])
    require_files(store, job)
    _check_options(settings, job)
    report = _check(store, settings, job, "training_file")
    notices = _notices(report, "training")
    if job.validation_file is not None:
        notices += _notices(_check(store, settings, job, "validation_file"), "validation")
    notices += _risks(store, settings, job)
    numbers = resolve_hyperparameters(job.hyperparameters, report, str(job.method["type"]))
    reason = batch_reason(job.hyperparameters, report, numbers)
    notices += [NewEvent(reason)] if reason else []
    store.queue.set_status(
        lease,
        JobStatus.QUEUED,
        [*notices, NewEvent("Files validated, moving job to queued state")],
        hyperparameters=numbers.to_json(),
    )


def require_files(store: Store, job: JobRow) -> None:
    """Raises DataError (`deleted_training_file`) when a file of the job is gone."""
    for param in MIN_EXAMPLES:
        file_id = getattr(job, param)
        if file_id is not None and store.files.for_job(file_id) is None:
            which = param.removesuffix("_file")
            raise DataError(
                f"The job failed because the {which} file was deleted", param=param, code=f"deleted_{param}"
            )


def row_limit(base_dir: Path, settings: Settings) -> int:
    """Tokens of a row that are trained: the base's context, or less where the settings say so."""
    return min(context_length(base_dir), settings.max_example_tokens or context_length(base_dir))


def _check(store: Store, settings: Settings, job: JobRow, param: str) -> Report:
    file_id = getattr(job, param)
    base_dir = materialise(resolve_base(job.base_model, settings), settings)
    try:
        report = check_file(
            store.blobs.path(file_id),
            renderer=_renderer(base_dir, (base_dir / "tokenizer.json").stat().st_mtime_ns),
            max_tokens=row_limit(base_dir, settings),
            method=str(job.method["type"]),
            min_examples=MIN_EXAMPLES[param],
        )
    except FileNotFoundError:  # deleted while we looked
        require_files(store, job)
        raise
    error = job_error(report, param, file_id=file_id)
    if error is not None:
        raise DataError(str(error["message"]), param=param, code=str(error["code"]))
    return report


def _check_options(settings: Settings, job: JobRow) -> None:
    """What only the base and this machine can tell, before the job waits for its turn."""
    options = job_options(job, settings)
    if options.quantization == "nf4":
        require_nf4()
    if options.adapter == "lora":
        base_dir = materialise(resolve_base(job.base_model, settings), settings)
        check_targets(linear_paths(base_dir), options.target_names, job.base_model)


def job_options(job: JobRow, settings: Settings) -> TrainingOptions:
    """As stored with the job, so that a changed setting does not change a job under way."""
    return TrainingOptions.model_validate({**settings.training_options().model_dump(), **job.options})


def _risks(store: Store, settings: Settings, job: JobRow) -> list[NewEvent]:
    training = store.blobs.path(job.training_file)
    try:
        found = moderation_notices(training, settings)
        if job.validation_file is not None:
            found += leak_notices(training, store.blobs.path(job.validation_file))
    except FileNotFoundError:  # deleted while we looked
        require_files(store, job)
        raise
    return found


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

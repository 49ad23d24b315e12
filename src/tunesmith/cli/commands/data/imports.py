"""`tunesmith import openai FOLDER`: jobs, files and their history from OpenAI.

It also says how to train each job again here.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.local_store import find_project, open_local_store
from tunesmith.cli.options import AsJson, DataDir

if TYPE_CHECKING:
    from tunesmith.migration.openai_export import Export, ExportedFile, ExportedJob
    from tunesmith.migration.openai_rerun import Here
    from tunesmith.settings import Settings
    from tunesmith.store.objects.imports import ImportedFile, JobWithHistory

COPIED = (
    *("id", "model", "created_at", "finished_at", "fine_tuned_model", "organization_id", "result_files"),
    *("training_file", "validation_file", "trained_tokens", "user_provided_suffix", "metadata"),
)

app = typer.Typer(help="Import what was made elsewhere.", no_args_is_help=True)


@dataclass(frozen=True, slots=True)
class JobReport:
    """What the command reports about one job."""

    id: str
    status: str
    outcome: str  # imported, here already, or why it was left out
    fine_tuned_model: str | None
    differences: list[str]
    command: str | None
    obstacle: str | None  # why there is no command


@app.callback()
def group() -> None:
    """Import what was made elsewhere."""


@app.command("openai")
def import_openai(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Folder written by examples/export_openai.py.", metavar="FOLDER", exists=True, file_okay=False
        ),
    ],
    project: Annotated[str, typer.Option(help="Id or name of the project to import into.")] = "default",
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Import the jobs, files, events and checkpoints of an export, under the same ids.

    Safe to repeat: what is here already is left as it is. Prints for each job what will differ, and how to train it
    again.
    """
    from tunesmith.cli.configure import load_settings
    from tunesmith.migration.openai_export import read_export

    settings, export = load_settings(data_dir), read_export(folder)
    with open_local_store(data_dir) as store:
        where = find_project(store, project).id
        files = [(_file(file, where), _bytes(export, file)) for file in export.files if export.content(file.id)]
        finished = [_job(settings, export, job, where) for job in export.jobs if job.finished]
        fresh = store.imports.add(files, finished)  # all of it, or after an error nothing
    outcomes = {file.id: _outcome(file.id, fresh, _left_out(export, file)) for file in export.files}
    jobs = [_report(settings, export, job, _outcome(job.id, fresh, _unfinished(job))) for job in export.jobs]
    _print(outcomes, jobs, as_json)


def _outcome(object_id: str, fresh: set[str], left_out: str | None) -> str:
    return left_out or ("imported" if object_id in fresh else "here already")


def _left_out(export: "Export", file: "ExportedFile") -> str | None:
    return None if export.content(file.id) else "left out: its bytes were not exported"


def _file(file: "ExportedFile", project: str) -> "ImportedFile":
    from tunesmith.store.objects.imports import ImportedFile

    return ImportedFile(file.id, file.filename, file.purpose, file.created_at, project)


def _bytes(export: "Export", file: "ExportedFile") -> Iterator[bytes]:
    from tunesmith.migration.openai_export import plain_csv

    path = export.content(file.id)
    if path is not None and file.purpose == "fine-tune-results":
        yield plain_csv(path.read_bytes())
    elif path is not None:
        yield from _chunks(path)


def _report(settings: "Settings", export: "Export", job: "ExportedJob", outcome: str) -> JobReport:
    from tunesmith.migration.openai_rerun import command, differences, obstacle

    here = _here(job, settings)
    blocked = obstacle(job, export)
    return JobReport(
        id=job.id,
        status=job.status,
        outcome=outcome,
        fine_tuned_model=job.fine_tuned_model,
        differences=differences(job, here),
        command=command(job, export, here) if blocked is None else None,
        obstacle=blocked,
    )


def _job(settings: "Settings", export: "Export", job: "ExportedJob", project: str) -> "JobWithHistory":
    from tunesmith.store import JobStatus
    from tunesmith.store.objects.imports import ImportedCheckpoint, ImportedEvent, ImportedJob

    imported = ImportedJob(
        **{name: getattr(job, name) for name in COPIED},
        status=JobStatus(job.status),
        hyperparameters=dict(job.hyperparameters or job.numbers),
        error=dict(job.error) if job.error else None,
        seed=job.seed or 0,
        integrations=job.integrations or [],
        method=dict(job.method or {"type": "supervised", "supervised": {"hyperparameters": job.numbers}}),
        project=project,
        base_model=_here(job, settings).base or settings.base_model,
        owned_by=settings.organization,
        source="openai",
    )
    history = [ImportedEvent(**event.model_dump()) for event in export.events(job.id)]
    kept = [
        ImportedCheckpoint(
            point.id, point.created_at, point.fine_tuned_model_checkpoint, point.step_number, dict(point.metrics)
        )
        for point in export.checkpoints(job.id)
    ]
    return imported, history, kept


def _unfinished(job: "ExportedJob") -> str | None:
    if job.finished:
        return None
    return f"left out: it was {job.status} when it was exported; export it again when it has ended"


def _here(job: "ExportedJob", settings: "Settings") -> "Here":
    from tunesmith.migration.openai_rerun import Here
    from tunesmith.models.registry import alias_table, list_bases
    from tunesmith.store import read_aliases

    names = {name: base.name for name, base in alias_table(settings, read_aliases(settings)).items()}
    names |= {base.name: base.name for base in list_bases(settings)}
    return Here(names.get(job.model), settings.base_model, settings.base_learning_rate)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(1024 * 1024):
            yield chunk


def _print(files: dict[str, str], jobs: list[JobReport], as_json: bool) -> None:
    from tunesmith.cli.output.terminal import note, plural, print_json, print_plain

    if as_json:
        print_json({"files": files, "jobs": [asdict(job) for job in jobs]})
        return
    for outcome, count in Counter(files.values()).items():
        print_plain(f"{plural(count, 'file')}: {outcome}")
    for job in jobs:
        print_plain(f"\n{job.id}  {job.status}  {job.outcome}")
        if job.command is None:
            print_plain(f"  Cannot be trained again as it is: {job.obstacle}.")
        else:
            print_plain(f"  {job.command}")
            if job.fine_tuned_model is not None:
                print_plain(f"  tunesmith models replace {job.fine_tuned_model} NEW_MODEL")
    told = Counter(difference for job in jobs for difference in job.differences)
    if told:
        print_plain("\nWhat differs when they are trained here:")
    for difference, count in told.items():  # each once, however many jobs it is true of
        print_plain(f"  {difference}" + (f" ({count} of {plural(len(jobs), 'job')})" if len(jobs) > 1 else ""))
    note(f"{plural(len(files), 'file')} and {plural(len(jobs), 'job')} read. Next steps: docs/moving-from-openai.md.")

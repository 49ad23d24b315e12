"""`tunesmith import openai FOLDER`: jobs, files and their history from OpenAI.

It also says how to train each job again here.
"""

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
    from tunesmith.store import Store

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
    from tunesmith.cli.output.terminal import print_json
    from tunesmith.migration.openai_export import read_export

    settings, export = load_settings(data_dir), read_export(folder)
    with open_local_store(data_dir) as store:
        where = find_project(store, project).id
        files = {file.id: _add_file(store, export, file, where) for file in export.files}
        jobs = [_add_job(store, settings, export, job, where) for job in export.jobs]
    if as_json:
        print_json({"files": files, "jobs": [asdict(job) for job in jobs]})
    else:
        _print(files, jobs)


def _add_file(store: "Store", export: "Export", file: "ExportedFile", project: str) -> str:
    from tunesmith.migration.openai_export import plain_csv
    from tunesmith.store.objects.imports import ImportedFile

    path = export.content(file.id)
    if path is None:
        return "left out: its bytes were not exported"
    result = file.purpose == "fine-tune-results"
    chunks = iter([plain_csv(path.read_bytes())]) if result else _chunks(path)
    imported = ImportedFile(file.id, file.filename, file.purpose, file.created_at, project)
    return "imported" if store.imports.add_file(imported, chunks) else "here already"


def _add_job(store: "Store", settings: "Settings", export: "Export", job: "ExportedJob", project: str) -> JobReport:
    from tunesmith.migration.openai_rerun import command, differences, obstacle

    here = _here(job, settings)
    blocked = obstacle(job, export)
    outcome = _write_job(store, settings, export, job, project) if job.finished else _unfinished(job)
    return JobReport(
        id=job.id,
        status=job.status,
        outcome=outcome,
        fine_tuned_model=job.fine_tuned_model,
        differences=differences(job, here),
        command=command(job, export, here) if blocked is None else None,
        obstacle=blocked,
    )


def _write_job(store: "Store", settings: "Settings", export: "Export", job: "ExportedJob", project: str) -> str:
    from tunesmith.store import JobStatus
    from tunesmith.store.objects.imports import ImportedCheckpoint, ImportedEvent, ImportedJob

    fresh = store.imports.add_job(
        ImportedJob(
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
        ),
        [ImportedEvent(**event.model_dump()) for event in export.events(job.id)],
        [
            ImportedCheckpoint(
                point.id, point.created_at, point.fine_tuned_model_checkpoint, point.step_number, dict(point.metrics)
            )
            for point in export.checkpoints(job.id)
        ],
    )
    return "imported" if fresh else "here already"


def _unfinished(job: "ExportedJob") -> str:
    return f"left out: it was {job.status} when it was exported; export it again when it has ended"


def _here(job: "ExportedJob", settings: "Settings") -> "Here":
    from tunesmith.migration.openai_rerun import Here
    from tunesmith.models.registry import alias_table, list_bases

    names = {name: base.name for name, base in alias_table(settings).items()}
    names |= {base.name: base.name for base in list_bases(settings)}
    return Here(names.get(job.model), settings.base_model, settings.base_learning_rate)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(1024 * 1024):
            yield chunk


def _print(files: dict[str, str], jobs: list[JobReport]) -> None:
    from tunesmith.cli.output.terminal import note, print_plain

    for file_id, outcome in files.items():
        print_plain(f"{file_id}  {outcome}")
    for job in jobs:
        print_plain(f"\n{job.id}  {job.status}  {job.outcome}")
        for difference in job.differences:
            print_plain(f"  {difference}")
        if job.command is None:
            print_plain(f"  Cannot be trained again as it is: {job.obstacle}.")
        else:
            print_plain(f"  {job.command}")
            if job.fine_tuned_model is not None:
                print_plain(f"  tunesmith models replace {job.fine_tuned_model} NEW_MODEL")
    note(f"{len(files)} files and {len(jobs)} jobs read. Next steps: docs/moving-from-openai.md.")

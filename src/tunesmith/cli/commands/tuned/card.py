"""`tunesmith models card MODEL`: what a tuned model was made of."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.exits import CommandError
from tunesmith.cli.options import AsJson, BaseUrl, DataDir, named

if TYPE_CHECKING:
    from tunesmith.export.cards.training_record import TrainingRecord
    from tunesmith.settings import Settings
    from tunesmith.store import JobRow, ModelRow, Store
    from tunesmith.train.protocol.spec import TrainSpec

Model = Annotated[
    str,
    typer.Argument(
        help="Tuned model or checkpoint, or the job that made it; 'last' for the newest model.",
        metavar="MODEL|JOB",
        show_default=False,
        callback=named,
    ),
]


def card(model: Model, as_json: AsJson = False, base_url: BaseUrl = None, data_dir: DataDir = None) -> None:
    """Print the card of a tuned model.

    It tells data, base and licence, options, curves, machine and verdict. It is Markdown, and lies in the model's
    folder as card.md, with the same as card.json beside it. It is read from the data directory, so the command runs
    on the server's machine.
    """
    from tunesmith.cli.commands.tuned.find import find_model, require_this_machine
    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.local_store import open_local_store
    from tunesmith.cli.output.terminal import print_json, print_plain
    from tunesmith.export.cards.model_card import write_card

    settings = load_settings(data_dir)
    require_this_machine(settings, base_url, "models card")
    with open_local_store(data_dir) as store:
        row = find_model(store, model)
        record = record_of(store, settings, row)
        text = write_card(row.adapter_dir, record)
    if as_json:
        print_json(asdict(record))
    else:
        print_plain(text.rstrip("\n"))


def record_of(store: "Store", settings: "Settings", row: "ModelRow") -> "TrainingRecord":
    """The record in the model's folder, made now for a model of an earlier version."""
    from tunesmith.export.cards.training_record import OfJob, make_record, read_record, write_record

    found = read_record(row.adapter_dir)
    if found is None:
        job = store.jobs.get(row.job_id)
        if job is None:
            raise CommandError(f"The job {row.job_id} that made {row.name} is not in the data directory.")
        found = make_record(OfJob.read(store, job, _spec_of(store, settings, job)), row, trained_now=False)
        write_record(row.adapter_dir, found)
    return found


def _spec_of(store: "Store", settings: "Settings", job: "JobRow") -> "TrainSpec":
    """The one that the last attempt was started with, else the one that it would be started with."""
    from tunesmith.store import JobFiles
    from tunesmith.train.protocol.spec import TrainSpec
    from tunesmith.worker.training import train_spec

    files = JobFiles(settings.paths.jobs, job.id)
    written = [files.spec(number) for number in range(job.attempt, 0, -1) if files.spec(number).is_file()]
    return TrainSpec.read(written[0]) if written else train_spec(store, settings, job)

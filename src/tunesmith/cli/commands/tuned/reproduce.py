"""`tunesmith reproduce MODEL`: the same training once more, and the bits compared."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tunesmith.cli.commands.tuned.card import Model
from tunesmith.cli.exits import CommandError, Exit
from tunesmith.cli.options import AsJson, BaseUrl, DataDir

if TYPE_CHECKING:
    from tunesmith.export.cards.reproduction import Change, Reproduced
    from tunesmith.export.cards.training_record import TrainingRecord
    from tunesmith.train.protocol.events import Event
    from tunesmith.train.protocol.spec import TrainSpec


def reproduce(model: Model, as_json: AsJson = False, base_url: BaseUrl = None, data_dir: DataDir = None) -> None:
    """Train a tuned model again from its record, and compare the bits of the weights.

    Data, base, options, seed and threads are those of the first training. Where the bits differ, the versions and the
    hardware that have changed are named; where data or base have changed, nothing is trained. It takes as long as the
    job did, and runs on the server's machine. Exit code 1: not the same.
    """
    from tunesmith.cli.commands.tuned.card import record_of
    from tunesmith.cli.commands.tuned.find import find_model, require_this_machine
    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.local_store import open_local_store
    from tunesmith.export.cards.reproduction import as_many_threads, changed_record, compare, lost_inputs, spec_of
    from tunesmith.worker.training import train_spec

    settings = load_settings(data_dir)
    require_this_machine(settings, base_url, "reproduce")
    with open_local_store(data_dir) as store:
        row = find_model(store, model)
        record = record_of(store, settings, row)
        job = store.jobs.get(row.job_id)
        if job is None:
            raise CommandError(f"The job {row.job_id} that made {row.name} is not in the data directory.")
        today = train_spec(store, settings, job)
        with TemporaryDirectory(prefix=".reproduce-", dir=settings.paths.root) as scratch:
            spec = spec_of(record, today, Path(scratch) / "output")
            _refuse_lost(lost_inputs(record, spec) or changed_record(record, spec, row.adapter_dir))
            found = compare(record, _train(as_many_threads(spec, record), Path(scratch)))
    _print(record, found, as_json=as_json)


def _refuse_lost(changes: "Sequence[Change]") -> None:
    if changes:
        listed = "; ".join(map(str, changes))
        raise CommandError(f"Not trained again, because what the model was trained on has changed: {listed}.")


def _train(spec: "TrainSpec", scratch: Path) -> dict[int, str]:
    from tunesmith.cli.output.waiting import Waiting
    from tunesmith.export.cards.reproduction import train_again
    from tunesmith.launch.ranks import RanksLauncher
    from tunesmith.train.protocol.events import Step

    said = ["starting the trainer"]

    def heard(event: "Event") -> None:
        if isinstance(event, Step):
            said[0] = f"step {event.step} of {event.total_steps}"

    with Waiting("training again", lambda: said[0]):
        return train_again(spec, scratch, RanksLauncher(1), heard)


def _print(record: "TrainingRecord", found: "Reproduced", *, as_json: bool) -> None:
    from tunesmith.cli.output.terminal import print_json, print_plain

    if as_json:
        changes = [{"input": one.name, "before": one.before, "now": one.now} for one in found.changes]
        sums = {"sha256": found.expected, "again": found.sha256}
        print_json({"model": record.model, "equal": found.equal, **sums, "changes": changes})
    elif found.equal:
        print_plain(f"{record.model} was trained again, and all bits are the same: SHA-256 {found.sha256}")
    else:
        print_plain(f"{record.model} came out otherwise: SHA-256 {found.sha256}, not {found.expected}.")
        for one in found.changes:
            print_plain(f"  {one}")
        if not found.changes:
            unknown = " What trained it was not recorded." if record.versions is None else ""
            print_plain(f"  No input has changed as far as it is recorded.{unknown}")
    if not found.equal:
        raise CommandError(f"{record.model} was not reproduced.", Exit.FAILED)

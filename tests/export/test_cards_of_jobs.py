"""The cards of a job's models: one for each, from one reading of the job."""

from pathlib import Path

from tests.statements import statements
from tests.train.conftest import write_tiny_base
from tests.web.work import checkpoint, running_job, train

from tunesmith.export.cards.training_record import OfJob, read_record
from tunesmith.models.adapters import AdapterManifest, write_manifest
from tunesmith.settings import Settings
from tunesmith.store import JobOutcome, Store, open_store
from tunesmith.worker.cards import keep_models
from tunesmith.worker.training import train_spec


def test_job_is_read_once_for_all_of_its_models(tmp_path: Path, base_dir: Path) -> None:
    (tmp_path / "base").mkdir()
    base = write_tiny_base(base_dir, tmp_path / "base")
    settings = Settings(data_dir=tmp_path / "data", bases={"tiny": str(base)}, base_model="tiny")
    store = open_store(settings)
    try:
        counts = [asked_for_cards(store, settings, kept) for kept in (1, 3)]  # a running job keeps no more
    finally:
        store.close()
    assert counts[0] == counts[1]


def asked_for_cards(store: Store, settings: Settings, kept: int) -> int:
    """How many statements the cards of a model and `kept` checkpoints take; no row is read twice."""
    lease = running_job(store, model="tiny", base_model="tiny")
    train(store, lease, 1, 10, 10)
    folders = [checkpoint(store, lease, settings.paths.jobs, number) for number in range(1, kept + 1)]
    final = settings.paths.jobs / lease.job_id / "final"
    final.mkdir()
    for step, folder in enumerate([*folders, final], 1):
        write_manifest(folder, AdapterManifest("tiny", "f" * 16, "r", 8, 16.0, ("q_proj",), step=step))
    job = store.jobs.get(lease.job_id)
    assert job is not None
    spec, outcome = train_spec(store, settings, job), JobOutcome(final, 681, store.blobs.write([b"step\n"]))
    with statements(store) as heard:
        checkpoints = store.jobs.checkpoints(job.id).data
        keep_models(store, settings, OfJob.read(store, job, spec), checkpoints, outcome)
    assert not heard.repeated()
    for step, folder in enumerate([*folders, final], 1):
        record = read_record(folder)
        assert record is not None
        assert (record.job, record.step, record.trained_tokens) == (job.id, step, 681)
        assert record.training.filename == "train.jsonl"
        assert record.curves["train_loss"][-1] == (step, 2 - step / 10)
        assert (folder / "card.md").is_file()
    assert read_record(final).model == job.planned_model  # type: ignore[union-attr]
    return len(heard.all)

"""The cards of what a job has made, written before it has succeeded."""

import time
from dataclasses import replace
from pathlib import Path

import structlog

from tunesmith.errors import TunesmithError
from tunesmith.export.cards.model_card import VERDICT_FILE, write_card
from tunesmith.export.cards.training_record import make_record, write_record
from tunesmith.settings import Settings
from tunesmith.store import JobOutcome, JobRow, ModelRow, Store
from tunesmith.system.atomic_write import write_atomically
from tunesmith.train.protocol.spec import TrainSpec

DIGESTS = "digests"  # folder of the cache: of bases, by their files
log = structlog.get_logger(__name__)


def write_cards(store: Store, settings: Settings, job: JobRow, spec: TrainSpec, outcome: JobOutcome) -> None:
    """Writes card.json and card.md beside the model and the kept checkpoints.

    Before the job has succeeded, so that nobody finds a model without them. It succeeds whatever comes of it.
    """
    for model in _models(store, job, outcome.adapter_dir):
        try:
            if outcome.evaluation is not None and model.adapter_dir == outcome.adapter_dir:
                # For the card: the job's own copy ends with the job.
                verdict = store.files.local_copy(outcome.evaluation.id).read_bytes()
                write_atomically(model.adapter_dir / VERDICT_FILE, verdict, private=True)
            record = make_record(store, model, spec, trained_now=True, digests=settings.cache_dir / DIGESTS)
            record = replace(record, trained_tokens=outcome.trained_tokens)
            write_record(model.adapter_dir, record)
            write_card(model.adapter_dir, record)
        except (OSError, ValueError, TunesmithError) as error:
            log.warning("a model has no card", job=job.id, model=model.name, error=str(error))


def publish_models(store: Store, job: JobRow, outcome: JobOutcome) -> None:
    """Keeps the model and the kept checkpoints where every machine finds them.

    With their cards. Raises StorageUnavailable.
    """
    for model in _models(store, job, outcome.adapter_dir):
        store.models.publish(model.adapter_dir)


def _models(store: Store, job: JobRow, adapter_dir: Path) -> list[ModelRow]:
    """The job's model, as it is about to be, and its kept checkpoints."""
    kept = {one.fine_tuned_model_checkpoint for one in store.jobs.checkpoints(job.id, limit=100).data}
    models = [model for name in sorted(kept - {job.planned_model}) if (model := store.models.get(name)) is not None]
    last = store.models.get(job.planned_model)
    if last is not None:  # the checkpoint of the last step has the model's name
        return [replace(last, adapter_dir=adapter_dir, step=None), *models]
    owner = job.organization_id.removeprefix("org-")
    made = ModelRow(
        job.planned_model, job.base_model, job.id, None, adapter_dir, int(time.time()), owner, project=job.project
    )
    return [made, *models]

"""The cards of what a job has made, written when it has succeeded."""

from pathlib import Path

import structlog

from tunesmith.errors import TunesmithError
from tunesmith.export.cards.model_card import VERDICT_FILE, write_card
from tunesmith.export.cards.training_record import make_record, write_record
from tunesmith.settings import Settings
from tunesmith.store import JobRow, Store
from tunesmith.system.atomic_write import write_atomically
from tunesmith.train.protocol.spec import TrainSpec

DIGESTS = "digests"  # folder of the cache: of bases, by their files
log = structlog.get_logger(__name__)


def write_cards(store: Store, settings: Settings, job: JobRow, spec: TrainSpec) -> None:
    """Writes card.json and card.md beside the model and the kept checkpoints.

    The job has succeeded whatever comes of it.
    """
    kept = {one.fine_tuned_model_checkpoint for one in store.jobs.checkpoints(job.id, limit=100).data}
    for name in sorted({job.planned_model, *kept}):
        try:
            model = store.models.get(name)
            if model is not None:
                if name == job.planned_model:
                    _keep_verdict(store, job, model.adapter_dir)
                record = make_record(store, model, spec, trained_now=True, digests=settings.cache_dir / DIGESTS)
                write_record(model.adapter_dir, record)
                write_card(model.adapter_dir, record)
        except (OSError, ValueError, TunesmithError) as error:
            log.warning("a model has no card", job=job.id, model=name, error=str(error))


def _keep_verdict(store: Store, job: JobRow, directory: Path) -> None:
    """Puts the evaluation beside the model, for its card; the job's own copy ends with the job."""
    row = store.jobs.get(job.id)
    shown = row.options.get("evaluation") if row is not None else None
    if isinstance(shown, dict):
        found = store.blobs.path(str(shown["file"])).read_bytes()
        write_atomically(directory / VERDICT_FILE, found, private=True)

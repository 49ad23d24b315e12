"""The cards of what a job has made, written when it has succeeded."""

import structlog

from tunesmith.errors import TunesmithError
from tunesmith.export.cards.model_card import write_card
from tunesmith.export.cards.training_record import make_record, write_record
from tunesmith.store import JobRow, Store
from tunesmith.train.protocol.spec import TrainSpec

log = structlog.get_logger(__name__)


def write_cards(store: Store, job: JobRow, spec: TrainSpec) -> None:
    """Writes card.json and card.md beside the model and the kept checkpoints.

    The job has succeeded whatever comes of it.
    """
    kept = {one.fine_tuned_model_checkpoint for one in store.jobs.checkpoints(job.id, limit=100).data}
    for name in sorted({job.planned_model, *kept}):
        try:
            model = store.models.get(name)
            if model is not None:
                record = make_record(store, model, spec, trained_now=True)
                write_record(model.adapter_dir, record)
                write_card(model.adapter_dir, record)
        except (OSError, ValueError, TunesmithError) as error:
            log.warning("a model has no card", job=job.id, model=name, error=str(error))

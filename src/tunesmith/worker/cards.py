"""The cards of what a job has made, written before it has succeeded."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import structlog

from tunesmith.errors import TunesmithError
from tunesmith.export.cards.model_card import VERDICT_FILE, write_card
from tunesmith.export.cards.training_record import OfJob, make_record, write_record
from tunesmith.settings import Settings
from tunesmith.store import CheckpointRow, JobOutcome, JobRow, ModelRow, Store
from tunesmith.system.atomic_write import write_atomically

DIGESTS = "digests"  # folder of the cache: of bases, by their files
log = structlog.get_logger(__name__)


def keep_models(
    store: Store, settings: Settings, of_job: OfJob, kept: Sequence[CheckpointRow], outcome: JobOutcome
) -> None:
    """Writes the cards of a job's models, and keeps all where every machine finds it.

    The models are its last one and the `kept` checkpoints. To be called before the job has succeeded, so that nobody
    finds a model without its card; one that cannot be written does not fail the job. Raises ServiceUnavailable, after
    which it can be called again.
    """
    job = of_job.job
    models = _models(store, job, kept, outcome.adapter_dir)
    for model in models:
        try:
            if outcome.evaluation is not None and model.adapter_dir == outcome.adapter_dir:
                # For the card: the job's own copy ends with the job.
                verdict = store.files.local_copy(outcome.evaluation.id).read_bytes()
                write_atomically(model.adapter_dir / VERDICT_FILE, verdict, private=True)
            record = make_record(of_job, model, trained_now=True, digests=settings.cache_dir / DIGESTS)
            record = replace(record, trained_tokens=outcome.trained_tokens)
            write_record(model.adapter_dir, record)
            write_card(model.adapter_dir, record)
        except (OSError, ValueError, TunesmithError) as error:
            log.warning("a model has no card", job=job.id, model=model.name, error=str(error))
    for model in models:
        store.models.publish(model.adapter_dir)


def _models(store: Store, job: JobRow, kept: Sequence[CheckpointRow], adapter_dir: Path) -> list[ModelRow]:
    """The job's model, as it is about to be, and its kept checkpoints."""
    found = store.models.among({*(one.fine_tuned_model_checkpoint for one in kept), job.planned_model})
    others = [model for model in found if model.name != job.planned_model]
    for last in found:
        if last.name == job.planned_model:  # the checkpoint of the last step has the model's name
            return [replace(last, adapter_dir=adapter_dir, step=None), *others]
    owner = job.organization_id.removeprefix("org-")
    made = ModelRow(
        job.planned_model, job.base_model, job.id, None, adapter_dir, int(time.time()), owner, project=job.project
    )
    return [made, *others]

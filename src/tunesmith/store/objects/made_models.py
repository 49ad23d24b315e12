"""The rows of the models and checkpoints that a job has made."""

import time
from pathlib import Path

from sqlalchemy import Connection, delete, insert, select, update

from tunesmith.store.ids import checkpoint_model_name, new_checkpoint_id
from tunesmith.store.rows import JobRow, NewCheckpoint
from tunesmith.store.schema.tables import checkpoints, models


def register_model(
    connection: Connection, job: JobRow, name: str, adapter_dir: Path, root: Path, step: int | None
) -> None:
    """Register a new name, or point an existing one at other files.

    The last checkpoint and the final model share a name.
    """
    adapter = str(adapter_dir.relative_to(root)) if adapter_dir.is_relative_to(root) else str(adapter_dir)
    change = update(models).where(models.c.name == name).values(adapter=adapter, step=step)
    if connection.execute(change).rowcount:
        return
    values = {
        "name": name,
        "base_model": job.base_model,
        "job_id": job.id,
        "step": step,
        "adapter": adapter,
        "created_at": int(time.time()),
        "owned_by": job.organization_id.removeprefix("org-"),
        "project": job.project,
    }
    connection.execute(insert(models).values(values))


def insert_checkpoint(connection: Connection, job: JobRow, checkpoint: NewCheckpoint, root: Path) -> None:
    """Insert the checkpoint and its model.

    The checkpoint of the last step has the final model's name.
    """
    last = checkpoint.step == job.total_steps
    name = job.planned_model if last else checkpoint_model_name(job.planned_model, checkpoint.step)
    register_model(connection, job, name, checkpoint.adapter_dir, root, step=checkpoint.step)
    values = {
        "id": new_checkpoint_id(),
        "job_id": job.id,
        "created_at": int(time.time()),
        "model": name,
        "step": checkpoint.step,
        "metrics": checkpoint.metrics,
    }
    connection.execute(insert(checkpoints).values(values))


def drop_checkpoints(connection: Connection, job_id: str, keep: int) -> None:
    """Drop all checkpoints but the newest `keep`, with their models."""
    newest = select(checkpoints.c.model).where(checkpoints.c.job_id == job_id).order_by(checkpoints.c.step.desc())
    dropped = list(connection.execute(newest.offset(keep)).scalars())
    connection.execute(delete(checkpoints).where(checkpoints.c.model.in_(dropped)))
    connection.execute(update(models).where(models.c.name.in_(dropped)).values(deleted_at=int(time.time())))

"""Tuned models and kept checkpoints: a name, and the adapter directory behind it.

Base models are elsewhere (`models.registry`), and so is the meaning of the files.
"""

import shutil
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import structlog
from sqlalchemy import ColumnElement, Connection, RowMapping, exists, or_, select, update

from tunesmith.errors import InvalidRequest, NotFound
from tunesmith.store.evals.evals import erase_evals
from tunesmith.store.queue.job_files import JobFiles
from tunesmith.store.rows import JobStatus, ListedModel, ModelRow, Page, ResolvedModel
from tunesmith.store.schema.db import Database
from tunesmith.store.schema.eval_tables import evals
from tunesmith.store.schema.tables import UNFINISHED, checkpoints, jobs, models, permissions
from tunesmith.store.scope import Scope
from tunesmith.store.storage.bucket import StorageUnavailable
from tunesmith.store.storage.folder_cache import FETCHING, is_abandoned
from tunesmith.store.storage.model_folders import ModelFolders

log = structlog.get_logger(__name__)

NO_WEIGHTS = ""  # in place of an adapter's path: imported models have none here


class ModelStore:
    """Tuned models, and checkpoints that were kept."""

    def __init__(
        self, database: Database, root: Path, jobs_directory: Path, scope: Scope, folders: ModelFolders | None = None
    ) -> None:
        self._database = database
        self._folders = folders or ModelFolders()
        self._root = root
        self._jobs_directory = jobs_directory
        self._scope = scope

    def within(self, scope: Scope) -> "ModelStore":
        """The same store, limited to `scope`."""
        return ModelStore(self._database, self._root, self._jobs_directory, scope, self._folders)

    def get(self, name: str) -> ModelRow | None:
        """Return a model; None when it is unknown or deleted."""
        query = select(models).where(models.c.name == name, self._usable(), models.c.deleted_at.is_(None))
        with self._database.read() as connection:
            row = connection.execute(query).mappings().one_or_none()
        return None if row is None else self._model_row(row)

    def among(self, names: Collection[str]) -> list[ModelRow]:
        """Return those of these models that exist, in the order of the names."""
        if not names:
            return []
        query = select(models).where(models.c.name.in_(names), self._usable(), models.c.deleted_at.is_(None))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(models.c.name)).mappings().all()
        return [self._model_row(row) for row in rows]

    def resolve(self, name: str) -> ResolvedModel | None:
        """Return what serving opens; None when the model is unknown or deleted.

        Raises as `fetch` does.
        """
        row = self.get(name)
        if row is None:
            return None
        self.fetch(row)
        return ResolvedModel(row.name, row.base_model, row.adapter_dir, row.created_at, row.owned_by)

    def fetch(self, row: ModelRow) -> None:
        """Have a model's files on this machine.

        Raises InvalidRequest (`model_without_weights`) for one that was imported and not trained again.
        """
        if row.adapter_dir == self._root / NO_WEIGHTS:
            raise InvalidRequest(
                f"The model '{row.name}' was imported from OpenAI, which does not hand out weights: it cannot be asked "
                "or trained further here yet. Train it again (`tunesmith import openai FOLDER` prints the command), "
                f"then give its name to the result: tunesmith models replace '{row.name}' NEW_MODEL",
                param="model",
                code="model_without_weights",
            )
        self._folders.fetch(row.adapter_dir)

    def system_message(self, name: str) -> str | None:
        """Return the system message of most rows that a model was trained on.

        None when they have none, or the model is unknown.
        """
        query = select(jobs.c.system_message).join(models, models.c.job_id == jobs.c.id)
        mine = query.where(models.c.name == name, self._usable(), models.c.deleted_at.is_(None))
        with self._database.read() as connection:
            return connection.execute(mine).scalar_one_or_none()

    def all(self) -> list[ListedModel]:
        """Return every model, oldest first."""
        listed = select(models.c.seq, *(models.c[name] for name in ListedModel.__slots__))
        alive = listed.where(models.c.deleted_at.is_(None))
        permitted = select(permissions.c.model).where(permissions.c.project_id == self._scope.project)
        # Two queries, each with its own index; a single one would read every project's models.
        with self._database.read() as connection:
            own = connection.execute(alive.where(self._scope.of(models)).order_by(models.c.seq)).all()
            shared = connection.execute(alive.where(models.c.name.in_(permitted))).all()
        rows = own if not shared else sorted({*own, *shared})
        return [ListedModel(*values) for _seq, *values in rows]

    def page(self, *, limit: int = 20, after: str | None = None) -> Page[ModelRow]:
        """Return a page of the models that the project may use, newest first.

        `after` is the name of the last one seen; an unknown one gives no rows.
        """
        alive = select(models).where(models.c.deleted_at.is_(None))
        permitted = select(permissions.c.model).where(permissions.c.project_id == self._scope.project)
        with self._database.read() as connection:
            if after is not None:
                edge = select(models.c.seq).where(models.c.name == after, self._usable())
                alive = alive.where(models.c.seq < edge.scalar_subquery())
            newest = alive.order_by(models.c.seq.desc()).limit(limit + 1)
            parts = [newest.where(one) for one in (self._scope.of(models), models.c.name.in_(permitted))]  # as in `all`
            found = {row["seq"]: row for part in parts for row in connection.execute(part).mappings()}
        rows = [found[place] for place in sorted(found, reverse=True)]
        return Page(tuple(self._model_row(row) for row in rows[:limit]), len(rows) > limit)

    def adapter_to_continue(self, name: str) -> Path | None:
        """Where a job that starts from the tuned model `name` finds it.

        Also when the model was deleted since; None when it is unknown.
        """
        query = select(models.c.adapter).where(models.c.name == name, self._usable())
        with self._database.read() as connection:
            adapter = connection.execute(query).scalar_one_or_none()
        if adapter is None:
            return None
        folder = self._root / str(adapter)
        self._folders.fetch(folder)
        return folder

    def publish(self, folder: Path) -> None:
        """Keep the folder of a model or checkpoint where every machine finds it.

        To be done before a row names it. Raises StorageUnavailable.
        """
        self._folders.publish(folder)

    def publish_progress(self, job_id: str, *, last: bool = False) -> None:
        """Keep a running job's newest progress where every machine finds it.

        `last`: this machine trains it no further.
        """
        self._folders.publish_progress(JobFiles(self._jobs_directory, job_id).output, last=last)

    def fetch_progress(self, job_id: str) -> None:
        """Have a job's newest progress on this machine. Raises StorageUnavailable."""
        self._folders.fetch_progress(JobFiles(self._jobs_directory, job_id).output)

    def all_folders(self) -> list[Path]:
        """Return the folder of every model and checkpoint that is needed."""
        query = select(models.c.adapter).where(models.c.adapter != NO_WEIGHTS, _needed(), self._scope.of(models))
        with self._database.read() as connection:
            return [self._root / adapter for adapter in dict.fromkeys(connection.execute(query).scalars())]

    def replace(self, name: str, by: str) -> None:
        """Let `name`, imported without weights, stand for the weights of `by`.

        Can be repeated with another model. Raises NotFound, and InvalidRequest where `name` has weights that would be
        lost.
        """
        with self._database.write() as connection:
            old, new = (self._own_row(connection, one) for one in (name, by))
            if new["adapter"] == NO_WEIGHTS:
                raise InvalidRequest(f"The model '{by}' has no weights here either; train it first.")
            if old["adapter"] != NO_WEIGHTS and _was_made_by_its_job(connection, old):
                raise InvalidRequest(f"The model '{name}' has weights of its own; only imported names are replaced.")
            change = {column: new[column] for column in ("adapter", "base_model", "job_id")}
            connection.execute(update(models).where(models.c.name == name).values(change))

    def replacements(self) -> dict[str, str | None]:
        """Return every imported name with the model that answers for it; None: none yet."""
        with self._database.read() as connection:
            query = select(models).where(self._scope.of(models), models.c.deleted_at.is_(None)).order_by(models.c.seq)
            rows = connection.execute(query).mappings().all()
            imported = [
                row for row in rows if row["adapter"] == NO_WEIGHTS or not _was_made_by_its_job(connection, row)
            ]
            return {row["name"]: _answering(connection, row) for row in imported}

    def stand_ins(self, name: str) -> list[str]:
        """The imported names that answer with the weights of `name`, deleted or not.

        They keep its files.
        """
        query = select(models).where(models.c.name == name, self._scope.of(models))
        with self._database.read() as connection:
            row = connection.execute(query).mappings().one_or_none()
            if row is None or row["adapter"] == NO_WEIGHTS:
                return []
            same = select(models).where(models.c.adapter == row["adapter"], models.c.name != name)
            alive = same.where(self._scope.of(models), models.c.deleted_at.is_(None)).order_by(models.c.seq)
            others = connection.execute(alive).mappings().all()
            return [one["name"] for one in others if not _was_made_by_its_job(connection, one)]

    def rename(self, name: str, display: str) -> None:
        """Have pages show another name for the model, or with an empty one its own.

        Raises NotFound.
        """
        with self._database.write() as connection:
            self._own_row(connection, name)
            connection.execute(update(models).where(models.c.name == name).values(display=display))

    def undo_replace(self, name: str) -> None:
        """Let the imported `name` stand for no weights again.

        The model that answered for it stays. Raises NotFound, and InvalidRequest where `name` was not replaced.
        """
        with self._database.write() as connection:
            row = self._own_row(connection, name)
            if row["adapter"] == NO_WEIGHTS or _was_made_by_its_job(connection, row):
                raise InvalidRequest(f"The model '{name}' is not replaced by another one; there is nothing to undo.")
            job = connection.execute(select(jobs.c.id, jobs.c.base_model).where(_made(name))).mappings().one()
            change = {"adapter": NO_WEIGHTS, "base_model": job["base_model"], "job_id": job["id"]}
            connection.execute(update(models).where(models.c.name == name).values(change))
        self.clean(row["job_id"])

    def _own_row(self, connection: Connection, name: str) -> RowMapping:
        query = select(models).where(models.c.name == name, self._scope.of(models), models.c.deleted_at.is_(None))
        row = connection.execute(query).mappings().one_or_none()
        if row is None:
            raise no_such_model(name)
        return row

    def delete(self, name: str) -> bool:
        """Return False when there is no such tuned model.

        Its adapter files are removed once no model and no job needs them. The eval of a verdict goes with the model
        that it is about.
        """
        change = (
            update(models)
            .where(models.c.name == name, self._scope.of(models), models.c.deleted_at.is_(None))
            .values(deleted_at=int(time.time()), display=None)
            .returning(models.c.job_id)
        )
        with self._database.write() as connection:
            job_id = connection.execute(change).scalar_one_or_none()
            if job_id is not None:
                _erase_verdict(connection, name)
        if job_id is None:
            return False
        self.clean(job_id)
        return True

    def clean(self, job_id: str, *, is_sweep: bool = False) -> None:
        """Remove every directory of a finished job's output that no model needs.

        The optimizer's state is among them. While the job is active its trainer needs all of them to resume, those of
        deleted models included. A sweep looks into object storage only where something is left here.
        """
        needed = self._needed_of(job_id)
        if needed is not None:
            files = JobFiles(self._jobs_directory, job_id)
            unneeded = list(_unneeded(needed, files.output))
            if unneeded or not is_sweep:
                self._folders.keep_only(files.output, needed)  # first: what is left here says that it has to be done
            for path in unneeded:
                shutil.rmtree(path, ignore_errors=True)
            for path in files.passing:
                path.unlink(missing_ok=True)

    def clean_all(self) -> None:
        """Run `clean` for every job with files here.

        Removes what a crash between `finish` and `clean` left.
        """
        for directory in self._jobs_directory.iterdir():
            self.clean(directory.name, is_sweep=True)

    def tidy(self) -> int:
        """Remove what object storage has of finished jobs and no model needs.

        Such as what a node of a cluster has put after its job's end. Returns how many objects that was.
        """
        gone = 0
        try:
            for job_id, keys in self._folders.leftovers().items():
                needed = self._needed_of(job_id)
                gone += 0 if needed is None else self._folders.remove_unneeded(keys, needed)
        except StorageUnavailable as error:
            log.warning("objects of jobs are removed another time", error=str(error))
        return gone

    def _needed_of(self, job_id: str) -> set[Path] | None:
        """The folders of a finished job that models need; None for one that goes on or is not known."""
        with self._database.read() as connection:
            status = connection.execute(select(jobs.c.status).where(jobs.c.id == job_id)).scalar_one_or_none()
            if status is None or not JobStatus(status).finished:
                return None
            query = select(models.c.adapter).where(models.c.job_id == job_id, _needed())
            return {self._root / adapter for adapter in connection.execute(query).scalars()}

    def _usable(self) -> ColumnElement[bool]:
        """The project's own models, and those that it has a permission for."""
        permitted = exists().where(
            permissions.c.model == models.c.name, permissions.c.project_id == self._scope.project
        )
        return or_(self._scope.of(models), permitted)

    def _model_row(self, row: RowMapping) -> ModelRow:
        values = {name: row[name] for name in ModelRow.__slots__ if name != "adapter_dir"}
        return ModelRow(**values, adapter_dir=self._root / row["adapter"])


def no_such_model(name: str) -> NotFound:
    """The answer to a name that no visible model has."""
    return NotFound(f"The model '{name}' does not exist", param="model", code="model_not_found")


def _was_made_by_its_job(connection: Connection, row: RowMapping) -> bool:
    """False for a name that has stood for another job's weights since a `replace`."""
    planned = connection.execute(select(jobs.c.planned_model).where(jobs.c.id == row["job_id"])).scalar_one()
    made = select(checkpoints.c.seq).where(checkpoints.c.job_id == row["job_id"], checkpoints.c.model == row["name"])
    return planned == row["name"] or connection.execute(made).first() is not None


def _made(name: str) -> ColumnElement[bool]:
    """The job that made the model or checkpoint `name`."""
    kept = select(checkpoints.c.job_id).where(checkpoints.c.model == name)
    return or_(jobs.c.planned_model == name, jobs.c.id.in_(kept))


def _answering(connection: Connection, row: RowMapping) -> str | None:
    """The model, perhaps deleted since, whose weights the imported name in `row` stands for."""
    if row["adapter"] == NO_WEIGHTS:
        return None
    same = select(models.c.name).where(
        models.c.job_id == row["job_id"], models.c.adapter == row["adapter"], models.c.name != row["name"]
    )
    named = connection.execute(same.order_by(models.c.seq.desc())).scalars().all()
    made = select(jobs.c.planned_model).where(jobs.c.id == row["job_id"])
    planned: str = connection.execute(made).scalar_one()
    own = [name for name in named if name == planned or name.startswith(planned.rpartition(":")[0])]
    return own[0] if own else planned


def _erase_verdict(connection: Connection, name: str) -> None:
    """Erases the eval that shows what `name` was worth."""
    made = select(jobs.c.result_files).where(jobs.c.planned_model == name)
    result_files = connection.execute(made).scalar_one_or_none() or []
    erase_evals(connection, evals.c.result_file.in_(result_files))


def _needed() -> ColumnElement[bool]:
    """Models that exist, and deleted ones that an unfinished job starts from."""
    continued = select(jobs.c.model).where(UNFINISHED)
    return or_(models.c.deleted_at.is_(None), models.c.name.in_(continued))


def _unneeded(needed: set[Path], directory: Path) -> Iterator[Path]:
    if not directory.is_dir():
        return
    for entry in directory.iterdir():
        if entry in needed or not entry.is_dir() or _is_being_fetched(entry):
            continue
        if any(path.is_relative_to(entry) for path in needed):
            yield from _unneeded(needed, entry)
        else:
            yield entry


def _is_being_fetched(folder: Path) -> bool:
    return folder.name.endswith(FETCHING) and not is_abandoned(folder)

"""Which other projects may use a tuned model or checkpoint; see `ModelStore`.

Not covered: a job that has begun to train a model further keeps it when the permission is withdrawn.
"""

import time
from collections.abc import Sequence

from sqlalchemy import Connection, RowMapping, delete, insert, select

from tunesmith.errors import InvalidRequest
from tunesmith.store.ids import new_permission_id
from tunesmith.store.objects.models import no_such_model
from tunesmith.store.objects.pagination import Cursor, fetch_page
from tunesmith.store.rows import Order, Page, PermissionRow
from tunesmith.store.schema.db import Database
from tunesmith.store.schema.tables import models, permissions, projects
from tunesmith.store.scope import EVERYBODY, Scope


class PermissionStore:
    """Permissions to use models."""

    def __init__(self, database: Database, scope: Scope) -> None:
        self._database = database
        self._scope = scope

    def within(self, scope: Scope) -> "PermissionStore":
        """The same store, limited to `scope`."""
        return PermissionStore(self._database, scope)

    def grant(self, model: str, project_ids: Sequence[str]) -> list[PermissionRow]:
        """Grant one permission per project, in order, or none at all on an error.

        An existing permission is returned unchanged. Raises NotFound for a model that is not this project's, and
        InvalidRequest for a project that does not exist.
        """
        with self._database.write() as connection:
            self._lock_model(connection, model)
            _check_projects(connection, project_ids)
            return [_grant(connection, model, project_id) for project_id in dict.fromkeys(project_ids)]

    def page(
        self,
        model: str,
        *,
        project_id: str | None = None,
        limit: int = 10,
        after: str | None = None,
        order: Order = "desc",
    ) -> Page[PermissionRow]:
        """Return a page of a model's permissions. Raises NotFound as `grant` does."""
        query = select(permissions).where(permissions.c.model == model)
        if project_id is not None:
            query = query.where(permissions.c.project_id == project_id)
        with self._database.read() as connection:
            self._check_model(connection, model)
            rows, more = fetch_page(connection, query, permissions, Cursor(limit, after, order), EVERYBODY)
        return Page(tuple(_permission_row(row) for row in rows), more)

    def revoke(self, model: str, permission_id: str) -> bool:
        """Return False when the model has no such permission.

        Takes effect from the next request on. Raises NotFound as `grant` does.
        """
        with self._database.write() as connection:
            self._check_model(connection, model)
            which = permissions.c.id == permission_id, permissions.c.model == model
            return connection.execute(delete(permissions).where(*which)).rowcount > 0

    def _check_model(self, connection: Connection, model: str, *, lock: bool = False) -> None:
        query = select(models.c.seq).where(
            models.c.name == model, self._scope.of(models), models.c.deleted_at.is_(None)
        )
        if connection.execute(query.with_for_update() if lock else query).first() is None:
            raise no_such_model(model)

    def _lock_model(self, connection: Connection, model: str) -> None:
        """Concurrent grants wait for each other, so a project gets one permission."""
        self._check_model(connection, model, lock=True)


def _check_projects(connection: Connection, project_ids: Sequence[str]) -> None:
    query = select(projects.c.id).where(projects.c.id.in_(project_ids), projects.c.archived_at.is_(None))
    known = set(connection.execute(query).scalars())
    for index, project_id in enumerate(project_ids):
        if project_id not in known:
            raise InvalidRequest(
                f"There is no active project {project_id!r:.60} here: `tunesmith projects list` shows their ids - "
                f"'project_ids[{index}]'",
                param=f"project_ids[{index}]",
            )


def _grant(connection: Connection, model: str, project_id: str) -> PermissionRow:
    given = select(permissions).where(permissions.c.model == model, permissions.c.project_id == project_id)
    row = connection.execute(given).mappings().one_or_none()
    if row is None:
        values = {
            "id": new_permission_id(),
            "model": model,
            "project_id": project_id,
            "created_at": int(time.time()),
        }
        row = connection.execute(insert(permissions).values(values).returning(permissions)).mappings().one()
    return _permission_row(row)


def _permission_row(row: RowMapping) -> PermissionRow:
    return PermissionRow(**{name: row[name] for name in PermissionRow.__slots__})

"""Projects: they separate the objects of one organisation.

The first project exists from the start.
"""

import time

from sqlalchemy import RowMapping, insert, select, update

from tunesmith.errors import InvalidRequest
from tunesmith.store.ids import new_project_id
from tunesmith.store.objects.pagination import Cursor, fetch_page
from tunesmith.store.rows import FIRST_PROJECT, Page, ProjectRow
from tunesmith.store.schema.db import Database
from tunesmith.store.schema.tables import projects
from tunesmith.store.scope import EVERYBODY


class ProjectStore:
    """All projects, active and archived."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, name: str) -> ProjectRow:
        """Create an active project; names need not be unique."""
        values = {"id": new_project_id(), "name": name, "created_at": int(time.time())}
        with self._database.write() as connection:
            return _project_row(
                connection.execute(insert(projects).values(values).returning(projects)).mappings().one()
            )

    def get(self, project_id: str) -> ProjectRow | None:
        """Return a project, archived ones included; None when there is none."""
        with self._database.read() as connection:
            row = connection.execute(select(projects).where(projects.c.id == project_id)).mappings().one_or_none()
        return None if row is None else _project_row(row)

    def named(self, name: str) -> list[ProjectRow]:
        """Return the active projects with this id or name, oldest first.

        Several may have the same name, as at OpenAI.
        """
        query = select(projects).where(
            (projects.c.id == name) | (projects.c.name == name), projects.c.archived_at.is_(None)
        )
        with self._database.read() as connection:
            return [_project_row(row) for row in connection.execute(query.order_by(projects.c.seq)).mappings()]

    def page(self, *, limit: int = 20, after: str | None = None, archived: bool = False) -> Page[ProjectRow]:
        """Return a page of projects, newest first; archived ones only on request."""
        query = select(projects) if archived else select(projects).where(projects.c.archived_at.is_(None))
        with self._database.read() as connection:
            rows, more = fetch_page(connection, query, projects, Cursor(limit, after), EVERYBODY)
        return Page(tuple(_project_row(row) for row in rows), more)

    def rename(self, project_id: str, name: str) -> ProjectRow | None:
        """Return the renamed project; None when there is none."""
        change = update(projects).where(projects.c.id == project_id).values(name=name).returning(projects)
        with self._database.write() as connection:
            row = connection.execute(change).mappings().one_or_none()
        return None if row is None else _project_row(row)

    def archive(self, project_id: str) -> ProjectRow | None:
        """Archive a project: its keys are refused from now on, its objects stay.

        Archiving twice changes nothing. None when there is no such project; raises InvalidRequest for the first one.
        """
        if project_id == FIRST_PROJECT:
            raise InvalidRequest(
                "The first project cannot be archived: the server's own key is in it.", param="project_id"
            )
        with self._database.write() as connection:
            active = (projects.c.id == project_id) & projects.c.archived_at.is_(None)
            connection.execute(update(projects).where(active).values(archived_at=int(time.time())))
        return self.get(project_id)


def _project_row(row: RowMapping) -> ProjectRow:
    return ProjectRow(**{name: row[name] for name in ProjectRow.__slots__})

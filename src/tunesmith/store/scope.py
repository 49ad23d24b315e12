"""Whose rows a store sees.

Requests see one project's; workers and background sweeps see every project's.
"""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, FromClause, true


@dataclass(frozen=True, slots=True)
class Scope:
    """A condition in the WHERE clause of every statement about objects of a project.

    It is part of the store rather than of the routes, so that no route can forget it, and no store has a default.
    `project` None: every project.
    """

    project: str | None

    def of(self, table: FromClause) -> ColumnElement[bool]:
        """The condition for `table`, which has a column `project`."""
        return true() if self.project is None else table.c.project == self.project


EVERYBODY = Scope(None)

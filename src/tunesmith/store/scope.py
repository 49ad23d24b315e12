"""Whose rows a store sees: one project's, as requests do, or everybody's, as workers and sweeps do."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, FromClause, true


@dataclass(frozen=True, slots=True)
class Scope:
    """Stands in the WHERE of every statement, so that no route can forget to ask whose an object is."""

    project: str | None = None

    def of(self, table: FromClause) -> ColumnElement[bool]:
        return true() if self.project is None else table.c.project == self.project


EVERYBODY = Scope()

"""Evals, their runs and the items of those."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"

UNFINISHED = "deleted_at IS NULL AND status IN ('queued', 'in_progress')"


def upgrade() -> None:
    _evals()
    _runs()
    _items()


def _seq() -> sa.Column[int]:
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column("seq", kind, autoincrement=True, nullable=False)


def _column(name: str, kind: type[sa.Text | sa.BigInteger | sa.Integer | sa.Float[float]]) -> sa.Column[object]:
    return sa.Column(name, kind())


def _needed(
    name: str, kind: type[sa.Text | sa.BigInteger | sa.Integer], default: str | None = None
) -> sa.Column[object]:
    return sa.Column(name, kind(), nullable=False, server_default=default)


def _evals() -> None:
    op.create_table(
        "evals",
        _seq(),
        *(_needed(name, sa.Text) for name in ("id", "project", "name")),
        *(_column(name, sa.Text) for name in ("data_source_config", "testing_criteria", "metadata")),
        *(_needed(name, sa.BigInteger) for name in ("created_at", "updated_at")),
        _column("deleted_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("seq", name="pk_evals"),
        sa.UniqueConstraint("id", name="uq_evals_id"),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    op.create_index("ix_evals_project_seq", "evals", ["project", "seq"], if_not_exists=True)
    columns = ["project", "updated_at", "seq"]
    op.create_index("ix_evals_project_updated_at_seq", "evals", columns, if_not_exists=True)


def _runs() -> None:
    op.create_table(
        "eval_runs",
        _seq(),
        *(_needed(name, sa.Text) for name in ("id", "eval_id", "project")),
        _column("key_id", sa.Text),
        *(_needed(name, sa.Text) for name in ("name", "model", "status")),
        *(_column(name, sa.Text) for name in ("data_source", "metadata")),
        _needed("created_at", sa.BigInteger),
        _column("error", sa.Text),
        _needed("total", sa.BigInteger),
        *(_needed(name, sa.BigInteger, "0") for name in ("passed", "failed", "errored")),
        _column("totals", sa.Text),
        _needed("bytes", sa.BigInteger),
        _column("worker", sa.Text),
        _column("lease_until", sa.Float),
        *(_needed(name, sa.Integer, "0") for name in ("attempt", "stalled")),
        _column("deleted_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("seq", name="pk_eval_runs"),
        sa.UniqueConstraint("id", name="uq_eval_runs_id"),
        sa.ForeignKeyConstraint(["eval_id"], ["evals.id"], name="fk_eval_runs_eval_id", ondelete="CASCADE"),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    op.create_index("ix_eval_runs_eval_id_seq", "eval_runs", ["eval_id", "seq"], if_not_exists=True)
    where = sa.text(UNFINISHED)
    columns = ["project", "seq"]
    name = "ix_eval_runs_unfinished"
    op.create_index(name, "eval_runs", columns, sqlite_where=where, postgresql_where=where, if_not_exists=True)


def _items() -> None:
    op.create_table(
        "eval_items",
        _seq(),
        *(_needed(name, sa.Text) for name in ("id", "run_id", "project")),
        _needed("number", sa.BigInteger),
        *(_column(name, sa.Text) for name in ("item", "given")),
        _needed("state", sa.Text),
        _column("place", sa.BigInteger),
        _needed("created_at", sa.BigInteger),
        *(_column(name, sa.Text) for name in ("sample", "results")),
        _needed("bytes", sa.BigInteger),
        sa.PrimaryKeyConstraint("seq", name="pk_eval_items"),
        sa.UniqueConstraint("id", name="uq_eval_items_id"),
        sa.ForeignKeyConstraint(["run_id"], ["eval_runs.id"], name="fk_eval_items_run_id", ondelete="CASCADE"),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    op.create_index("ix_eval_items_run_id_state_seq", "eval_items", ["run_id", "state", "seq"], if_not_exists=True)
    op.create_index("ix_eval_items_run_id_place", "eval_items", ["run_id", "place"], if_not_exists=True)

"""Data sources of runs in a table of their own; evals that show a verdict.

A run's row changes with each of its rows, and SQLite writes the whole of a row that changes.
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.create_table(
        "eval_sources",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("data_source", sa.Text()),
        sa.PrimaryKeyConstraint("run_id", name="pk_eval_sources"),
        sa.ForeignKeyConstraint(["run_id"], ["eval_runs.id"], name="fk_eval_sources_run_id", ondelete="CASCADE"),
    )
    op.execute("INSERT INTO eval_sources SELECT id, data_source FROM eval_runs WHERE data_source IS NOT NULL")
    op.drop_column("eval_runs", "data_source")
    op.add_column("evals", sa.Column("result_file", sa.Text()))
    shown = sa.text("result_file IS NOT NULL")
    name = "ix_evals_result_file"
    op.create_index(name, "evals", ["result_file"], sqlite_where=shown, postgresql_where=shown)

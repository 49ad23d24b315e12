"""The projects' turns at the queue, and an index for each project's next job."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

MAY_START = "status IN ('validating_files', 'queued', 'running') AND (paused IS {false} OR status = 'validating_files')"


def upgrade() -> None:
    seq = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "turns",
        sa.Column("seq", seq, autoincrement=True, nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_turns"),
        sa.UniqueConstraint("project", "stage", name="uq_turns_project_stage"),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    op.create_index(
        "ix_jobs_claim",
        "jobs",
        ["status", "project", "seq"],
        sqlite_where=sa.text(MAY_START.format(false="0")),
        postgresql_where=sa.text(MAY_START.format(false="false")),
        if_not_exists=True,
    )
    leased = sa.text("lease_until IS NOT NULL")
    op.create_index(
        "ix_jobs_leased", "jobs", ["lease_until"], sqlite_where=leased, postgresql_where=leased, if_not_exists=True
    )

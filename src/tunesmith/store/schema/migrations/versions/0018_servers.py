"""Limits, work, and names of models that several servers share."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    op.create_table(
        "limit_levels",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("per_minute", sa.BigInteger(), nullable=False),
        sa.Column("level", sa.Float(53), nullable=False),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.PrimaryKeyConstraint("project", "what", name="pk_limit_levels"),
        if_not_exists=True,
    )
    op.create_table(
        "limit_running",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("server", sa.Text(), nullable=False),
        sa.Column("running", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.Float(53), nullable=False),
        sa.PrimaryKeyConstraint("project", "server", name="pk_limit_running"),
        if_not_exists=True,
    )
    op.create_table(
        "work_leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("until", sa.Float(53), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_work_leases"),
        if_not_exists=True,
    )
    op.add_column("models", sa.Column("display", sa.Text()))

"""Counters of what was asked and trained."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

COUNTERS = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens", "trained_tokens")


def upgrade() -> None:
    op.create_table(
        "usage",
        sa.Column("minute", sa.BigInteger(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in COUNTERS),
        sa.PrimaryKeyConstraint("minute", "project", "key_id", "model", name="pk_usage"),
    )

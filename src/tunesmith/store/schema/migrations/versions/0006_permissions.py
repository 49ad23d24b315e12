"""Permissions: which other projects may use a tuned model or a checkpoint."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "permissions",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_permissions"),
        sa.UniqueConstraint("id", name="uq_permissions_id"),
        sa.UniqueConstraint("model", "project_id", name="uq_permissions_model_project_id"),
        sqlite_autoincrement=True,
    )

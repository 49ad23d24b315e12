"""Which request made which object."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "creations",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text()),
        sa.Column("object_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_creations"),
        sa.UniqueConstraint("project", "kind", "idempotency_key", name="uq_creations_project_kind_idempotency_key"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_creations_created_at", "creations", ["created_at"])
    op.create_index("ix_creations_key_id_fingerprint", "creations", ["key_id", "fingerprint"])

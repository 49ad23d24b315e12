"""Chat completions that were asked to be kept."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "chats",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("requested_model", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text()),
        sa.Column("messages", sa.Text()),
        sa.Column("metadata", sa.Text()),
        sa.Column("deleted_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("seq", name="pk_chats"),
        sa.UniqueConstraint("id", name="uq_chats_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_chats_project_seq", "chats", ["project", "seq"])
    op.create_table(
        "chat_metadata",
        sa.Column("chat_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["chat_id"], ["chats.id"], name="fk_chat_metadata_chat_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("chat_id", "key", name="pk_chat_metadata"),
    )
    op.create_index("ix_chat_metadata_key_value", "chat_metadata", ["key", "value"])

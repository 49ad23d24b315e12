"""Stored chats are counted, and a page of them is cut by its bytes."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.add_column("chats", sa.Column("bytes", sa.BigInteger(), nullable=False, server_default="0"))
    alive = sa.text("deleted_at IS NULL")
    op.create_index("ix_chats_stored", "chats", ["project", "seq", "bytes"], sqlite_where=alive, postgresql_where=alive)
    op.execute("UPDATE chats SET bytes = length(body) + length(messages) WHERE deleted_at IS NULL")

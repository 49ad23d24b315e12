"""Projects; roles and expiry of keys.

Earlier keys were allowed everything, so they become owners.
"""

import time

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    projects = op.create_table(
        "projects",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("archived_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("seq", name="pk_projects"),
        sa.UniqueConstraint("id", name="uq_projects_id"),
        sqlite_autoincrement=True,
    )
    # Every object made so far is in a project of this id.
    op.bulk_insert(projects, [{"id": "default", "name": "Default project", "created_at": int(time.time())}])
    op.add_column("keys", sa.Column("role", sa.Text(), nullable=False, server_default="owner"))
    op.add_column("keys", sa.Column("expires_at", sa.BigInteger()))
    op.add_column("keys", sa.Column("last_used_at", sa.BigInteger()))
    op.add_column("jobs", sa.Column("key_id", sa.Text()))
    for table in ("files", "jobs", "models"):
        op.create_index(f"ix_{table}_project_seq", table, ["project", "seq"])

"""Indexes for lists and sweeps: rows not deleted, jobs not finished."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

ALIVE = "deleted_at IS NULL"
PARTIAL = (
    ("ix_files_page", "files", ["project", "seq"], ALIVE),
    ("ix_files_page_of_purpose", "files", ["project", "purpose", "seq"], ALIVE),
    ("ix_files_expiry", "files", ["expires_at"], f"expires_at IS NOT NULL AND {ALIVE}"),
    ("ix_files_unchecked", "files", ["seq"], "status = 'uploaded'"),
    ("ix_jobs_without_metadata", "jobs", ["project", "seq"], "metadata IS NULL"),
    ("ix_jobs_unfinished", "jobs", ["seq"], "status IN ('validating_files', 'queued', 'running')"),
    ("ix_models_page", "models", ["project", "seq"], ALIVE),
)


def upgrade() -> None:
    for name, table in (("project_seq", "files"), ("project_seq", "models"), ("status", "jobs")):
        op.drop_index(f"ix_{table}_{name}", table)
    for name, table, columns, where in PARTIAL:
        op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
    op.create_index("ix_permissions_project_id", "permissions", ["project_id"])

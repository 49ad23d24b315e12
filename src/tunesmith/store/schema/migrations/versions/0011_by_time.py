"""Jobs and files are listed by the time they were created.

Their positions (`seq`) are those of their insertion, which for imported objects is much later.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

ALIVE = "deleted_at IS NULL"
BY_TIME = ["created_at", "seq"]
PARTIAL = (
    ("ix_files_page", "files", ["project"], ALIVE),
    ("ix_files_page_of_purpose", "files", ["project", "purpose"], ALIVE),
    ("ix_jobs_without_metadata", "jobs", ["project"], "metadata IS NULL"),
)


def upgrade() -> None:
    op.drop_index("ix_jobs_project_seq", "jobs", if_exists=True)
    op.create_index("ix_jobs_project_created_at_seq", "jobs", ["project", *BY_TIME], if_not_exists=True)
    for name, table, columns, where in PARTIAL:
        op.drop_index(name, table, if_exists=True)
        condition = sa.text(where)
        op.create_index(name, table, [*columns, *BY_TIME], sqlite_where=condition, postgresql_where=condition)
    op.execute(
        "CREATE TABLE job_metadata_0009 AS SELECT m.job_id, m.key, m.value, m.project, j.created_at, m.seq "
        "FROM job_metadata AS m JOIN jobs AS j ON j.id = m.job_id"
    )
    op.drop_table("job_metadata")
    op.create_table(
        "job_metadata",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_job_metadata_job_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "key", name="pk_job_metadata"),
    )
    copied = "job_id, key, value, project, created_at, seq"
    op.execute(f"INSERT INTO job_metadata ({copied}) SELECT {copied} FROM job_metadata_0009")  # noqa: S608 - fixed text
    op.drop_table("job_metadata_0009")
    op.create_index(
        "ix_job_metadata_project_key_value_created_at_seq", "job_metadata", ["project", "key", "value", *BY_TIME]
    )

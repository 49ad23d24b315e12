"""A job's metadata pairs know its project and position; usage by project.

So a rare pair is found without reading every job. Measured with bench/storage/scale.py; docs/operating.md has the
figures.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_index("ix_usage_project_minute", "usage", ["project", "minute"])
    op.execute(
        "CREATE TABLE job_metadata_0008 AS SELECT m.job_id, m.key, m.value, j.project, j.seq "
        "FROM job_metadata AS m JOIN jobs AS j ON j.id = m.job_id"
    )
    op.drop_table("job_metadata")
    op.create_table(
        "job_metadata",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_job_metadata_job_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "key", name="pk_job_metadata"),
    )
    columns = "job_id, key, value, project, seq"
    op.execute(f"INSERT INTO job_metadata ({columns}) SELECT {columns} FROM job_metadata_0008")  # noqa: S608 - fixed text
    op.drop_table("job_metadata_0008")
    op.create_index("ix_job_metadata_project_key_value_seq", "job_metadata", ["project", "key", "value", "seq"])

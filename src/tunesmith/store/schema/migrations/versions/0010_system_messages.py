"""A job keeps the system message that most rows of its training file have.

So whoever talks to the model can send what it was trained with, also when the file is gone.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("system_message", sa.Text()))

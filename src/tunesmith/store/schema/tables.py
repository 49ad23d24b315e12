"""The schema.

A change here needs a migration; a test compares this with what the migrations build.
"""

import json

import orjson
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    and_,
    bindparam,
    literal,
    or_,
)

from tunesmith.jsonvalue import JsonValue
from tunesmith.store.rows import ACTIVE, COUNTERS

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class SafeText(TypeDecorator[str]):
    """Text that both databases accept.

    NUL (which PostgreSQL refuses) and lone surrogates (which are not valid UTF-8) become U+FFFD.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """The text to store, with NUL and lone surrogates replaced by U+FFFD."""
        return None if value is None else clean_text(value)


class JsonText(TypeDecorator[JsonValue]):
    """JSON as ASCII text: every string survives, on both databases.

    NULL and JSON's null are both None.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: JsonValue, dialect: Dialect) -> str | None:
        """The value as JSON text; NULL for None."""
        return None if value is None else json.dumps(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> JsonValue:
        """The value that the JSON text stands for; None for NULL."""
        if value is None:
            return None
        try:
            found: JsonValue = orjson.loads(value)  # three times as fast, which matters for a page of jobs
        except orjson.JSONDecodeError:  # lone surrogates, NaN
            found = json.loads(value)
        return found


def clean_text(value: str) -> str:
    """Replaces NUL and lone surrogates by U+FFFD."""
    whole = value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return whole.replace("\0", "\ufffd")


def _sequence() -> Column[int]:
    """The order of creation.

    Numbers are never reused, so that pages stay correct after deletions.
    """
    return Column("seq", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True)


def _partial(name: str, table: Table, *columns: str, where: ColumnElement[bool]) -> None:
    """An index of only the rows that a list shows.

    A query uses it when its WHERE contains `where` with the same constants, which is why those are written into the SQL
    (`literal_execute`) and not bound.
    """
    Index(name, *(table.c[column] for column in columns), sqlite_where=where, postgresql_where=where)


files = Table(
    "files",
    metadata,
    _sequence(),
    Column("id", Text, nullable=False, unique=True),
    Column("purpose", Text, nullable=False),
    Column("filename", SafeText, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("status", Text, nullable=False),
    Column("status_details", SafeText),
    Column("report", JsonText),
    Column("project", SafeText, nullable=False),
    # The row of a deleted file stays, so that its id still works as a page cursor.
    Column("deleted_at", BigInteger),
    sqlite_autoincrement=True,
)
BY_TIME = ("created_at", "seq")  # newest first; within a second, the one inserted last
_partial("ix_files_page", files, "project", *BY_TIME, where=files.c.deleted_at.is_(None))
_partial("ix_files_page_of_purpose", files, "project", "purpose", *BY_TIME, where=files.c.deleted_at.is_(None))
_partial("ix_files_expiry", files, "expires_at", where=files.c.expires_at.is_not(None) & files.c.deleted_at.is_(None))
UNCHECKED = files.c.status == literal("uploaded", literal_execute=True)
_partial("ix_files_unchecked", files, "seq", where=UNCHECKED)

uploads = Table(
    "uploads",
    metadata,
    _sequence(),
    Column("id", Text, nullable=False, unique=True),
    Column("project", SafeText, nullable=False),
    Column("filename", SafeText, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("mime_type", SafeText, nullable=False),
    Column("file_lifetime", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("status", Text, nullable=False),
    Column("file_id", Text),
    Column("part_ids", JsonText),  # as completed, to recognize a repeated `complete`
    Index(None, "status", "expires_at"),
    sqlite_autoincrement=True,
)

upload_parts = Table(
    "upload_parts",
    metadata,
    _sequence(),
    Column("id", Text, nullable=False, unique=True),
    Column("upload_id", Text, ForeignKey("uploads.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("created_at", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

jobs = Table(
    "jobs",
    metadata,
    _sequence(),
    Column("id", Text, nullable=False, unique=True),
    Column("model", SafeText, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Column("fine_tuned_model", SafeText),
    Column("organization_id", SafeText, nullable=False),
    Column("result_files", JsonText, nullable=False),
    Column("status", Text, nullable=False),
    Column("validation_file", SafeText),
    Column("training_file", SafeText, nullable=False),
    Column("hyperparameters", JsonText, nullable=False),
    Column("trained_tokens", BigInteger),
    Column("error", JsonText),
    Column("user_provided_suffix", SafeText),
    Column("seed", BigInteger, nullable=False),
    Column("estimated_finish", BigInteger),
    Column("integrations", JsonText, nullable=False),
    Column("metadata", JsonText),
    Column("method", JsonText, nullable=False),
    Column("project", SafeText, nullable=False),
    Column("key_id", Text),
    Column("base_model", SafeText, nullable=False),
    Column("planned_model", SafeText, nullable=False, unique=True),
    Column("options", JsonText, nullable=False),
    # The row is the queue entry: the holder of the lease works on the job; `attempt` is the fence.
    Column("worker", SafeText),
    Column("lease_until", Float),
    Column("attempt", Integer, nullable=False, default=0),
    Column("paused", Boolean, nullable=False, default=False),
    Column("last_step", BigInteger, nullable=False, default=0),
    Column("total_steps", BigInteger),
    Column("system_message", SafeText),  # of most rows of the training file
    Index(None, "project", *BY_TIME),
    sqlite_autoincrement=True,
)
_partial("ix_jobs_without_metadata", jobs, "project", *BY_TIME, where=jobs.c.metadata.is_(None))
UNFINISHED = jobs.c.status.in_(bindparam("unfinished", ACTIVE, expanding=True, literal_execute=True))
_partial("ix_jobs_unfinished", jobs, "seq", where=UNFINISHED)
# A paused job is still validated, it just does not start.
MAY_START = or_(jobs.c.paused.is_(False), jobs.c.status == literal("validating_files", literal_execute=True))
_partial("ix_jobs_claim", jobs, "status", "project", "seq", where=and_(UNFINISHED, MAY_START))
LEASED = jobs.c.lease_until.is_not(None)
_partial("ix_jobs_leased", jobs, "lease_until", where=LEASED)

turns = Table(
    "turns",
    metadata,
    _sequence(),  # of a project's last claim: the lowest comes next
    Column("project", SafeText, nullable=False),
    Column("stage", Text, nullable=False),  # check or train
    UniqueConstraint("project", "stage"),
    sqlite_autoincrement=True,
)

create_requests = Table(
    "creations",
    metadata,
    _sequence(),
    Column("kind", Text, nullable=False),
    Column("project", SafeText, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("idempotency_key", SafeText),
    Column("object_id", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False, index=True),
    UniqueConstraint("project", "kind", "idempotency_key"),
    Index(None, "key_id", "fingerprint"),
    sqlite_autoincrement=True,
)

job_metadata = Table(
    "job_metadata",
    metadata,
    Column("job_id", Text, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("key", SafeText, primary_key=True),
    Column("value", SafeText, nullable=False),
    # Copies of the job's, so that a page of jobs with a pair is a range of one index.
    Column("project", SafeText, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Index(None, "project", "key", "value", *BY_TIME),
)

events = Table(
    "events",
    metadata,
    _sequence(),
    Column("id", Text, nullable=False, unique=True),
    Column("job_id", Text, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("level", Text, nullable=False),
    Column("message", SafeText, nullable=False),
    Column("type", Text, nullable=False),
    Column("data", JsonText),
    Index(None, "job_id", "seq"),
    sqlite_autoincrement=True,
)

checkpoints = Table(
    "checkpoints",
    metadata,
    _sequence(),
    Column("id", Text, nullable=False, unique=True),
    Column("job_id", Text, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("model", SafeText, nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("metrics", JsonText, nullable=False),
    UniqueConstraint("job_id", "step"),
    sqlite_autoincrement=True,
)

models = Table(
    "models",
    metadata,
    _sequence(),
    Column("name", SafeText, nullable=False, unique=True),
    Column("base_model", SafeText, nullable=False),
    Column("job_id", Text, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("step", BigInteger),
    Column("adapter", SafeText, nullable=False),  # relative to the data directory, so that the directory can be moved
    Column("created_at", BigInteger, nullable=False),
    Column("owned_by", SafeText, nullable=False),
    Column("project", SafeText, nullable=False),
    Column("display", SafeText),  # what people call it; "": nothing; NULL: as its folder's display.json has it
    Column("deleted_at", BigInteger),
    sqlite_autoincrement=True,
)
_partial("ix_models_page", models, "project", "seq", where=models.c.deleted_at.is_(None))

chats = Table(
    "chats",
    metadata,
    _sequence(),
    Column("id", Text, nullable=False, unique=True),
    Column("project", SafeText, nullable=False),
    Column("model", SafeText, nullable=False),
    Column("requested_model", SafeText, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("body", JsonText),
    Column("messages", JsonText),
    Column("metadata", JsonText),
    # The row of a deleted completion stays, without its content, so that its id still works as a page cursor.
    Column("deleted_at", BigInteger),
    # Of body and messages: without it a page, and a limit, could only be known by reading them.
    Column("bytes", BigInteger, nullable=False, server_default="0"),
    Index(None, "project", "seq"),
    sqlite_autoincrement=True,
)
_partial("ix_chats_stored", chats, "project", "seq", "bytes", where=chats.c.deleted_at.is_(None))

chat_metadata = Table(
    "chat_metadata",
    metadata,
    Column("chat_id", Text, ForeignKey("chats.id", ondelete="CASCADE"), primary_key=True),
    Column("key", SafeText, primary_key=True),
    Column("value", SafeText, nullable=False),
    Index(None, "key", "value"),
)

aliases = Table(
    "aliases",
    metadata,
    Column("alias", SafeText, primary_key=True),
    Column("base", SafeText, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

permissions = Table(
    "permissions",
    metadata,
    _sequence(),
    Column("id", Text, nullable=False, unique=True),
    Column("model", SafeText, nullable=False),
    Column("project_id", SafeText, nullable=False, index=True),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("model", "project_id"),
    sqlite_autoincrement=True,
)

projects = Table(
    "projects",
    metadata,
    _sequence(),
    Column("id", Text, nullable=False, unique=True),
    Column("name", SafeText, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("archived_at", BigInteger),
    sqlite_autoincrement=True,
)

usage = Table(
    "usage",
    metadata,
    Column("minute", BigInteger, primary_key=True, autoincrement=False),
    Column("project", SafeText, primary_key=True),
    Column("key_id", Text, primary_key=True),
    Column("model", SafeText, primary_key=True),
    *(Column(name, BigInteger, nullable=False) for name in COUNTERS),
    Index(None, "project", "minute"),
)

keys = Table(
    "keys",
    metadata,
    _sequence(),
    Column("id", Text, nullable=False, unique=True),
    Column("name", SafeText, nullable=False),
    Column("sha256", Text, nullable=False, unique=True),
    Column("hint", Text, nullable=False),
    Column("project", SafeText, nullable=False),
    Column("role", Text, nullable=False, server_default="owner"),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("last_used_at", BigInteger),
    Column("revoked_at", BigInteger),
    sqlite_autoincrement=True,
)

# Who is signed in to the dashboard, by the hash of a cookie's or a link's token.
sessions = Table(
    "sessions",
    metadata,
    Column("sha256", Text, primary_key=True),
    Column("key_id", Text, nullable=False),
    Column("one_time", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)

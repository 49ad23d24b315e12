"""The tables of evals, their runs and what the runs' rows were answered.

A run's row is its queue entry, as a job's is. A row of its data is an item: it waits, is answered, and graded.
"""

from sqlalchemy import BigInteger, Column, Float, ForeignKey, Index, Integer, Table, Text, literal

from tunesmith.store.schema.tables import JsonText, SafeText, metadata


def _sequence() -> Column[int]:
    return Column("seq", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True)


evals = Table(
    "evals",
    metadata,
    _sequence(),
    Column("id", Text, nullable=False, unique=True),
    Column("project", SafeText, nullable=False),
    Column("name", SafeText, nullable=False),
    Column("data_source_config", JsonText),
    Column("testing_criteria", JsonText),
    Column("metadata", JsonText),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    # The row of what was deleted stays, without its content, so that its id still works as a page cursor.
    Column("deleted_at", BigInteger),
    Column("result_file", Text),  # a job's evaluation.json, where the eval shows the same
    Index(None, "project", "seq"),
    Index(None, "project", "updated_at", "seq"),
    sqlite_autoincrement=True,
)
OF_A_JOB = evals.c.result_file.is_not(None)
Index("ix_evals_result_file", evals.c.result_file, sqlite_where=OF_A_JOB, postgresql_where=OF_A_JOB)

eval_runs = Table(
    "eval_runs",
    metadata,
    _sequence(),
    Column("id", Text, nullable=False, unique=True),
    Column("eval_id", Text, ForeignKey("evals.id", ondelete="CASCADE"), nullable=False),
    Column("project", SafeText, nullable=False),
    Column("key_id", Text),
    Column("name", SafeText, nullable=False),
    Column("model", SafeText, nullable=False),
    Column("status", Text, nullable=False),
    Column("metadata", JsonText),
    Column("created_at", BigInteger, nullable=False),
    Column("error", JsonText),
    Column("total", BigInteger, nullable=False),
    Column("passed", BigInteger, nullable=False, server_default="0"),
    Column("failed", BigInteger, nullable=False, server_default="0"),
    Column("errored", BigInteger, nullable=False, server_default="0"),
    Column("totals", JsonText),  # by criterion and by model
    Column("bytes", BigInteger, nullable=False),  # of the data source: a page has only so many
    # The row is the queue entry: the holder of the lease works on the run; `attempt` is the fence.
    Column("worker", SafeText),
    Column("lease_until", Float),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("stalled", Integer, nullable=False, server_default="0"),  # attempts since the last saved answer
    Column("deleted_at", BigInteger),
    Index(None, "eval_id", "seq"),
    sqlite_autoincrement=True,
)
UNFINISHED_RUN = eval_runs.c.deleted_at.is_(None) & eval_runs.c.status.in_(
    [literal("queued", literal_execute=True), literal("in_progress", literal_execute=True)]
)
Index(
    "ix_eval_runs_unfinished",
    eval_runs.c.project,
    eval_runs.c.seq,
    sqlite_where=UNFINISHED_RUN,
    postgresql_where=UNFINISHED_RUN,
)

# Apart: a run's row changes with each of its rows, and SQLite writes the whole of a row that changes.
eval_sources = Table(
    "eval_sources",
    metadata,
    Column("run_id", Text, ForeignKey("eval_runs.id", ondelete="CASCADE"), primary_key=True),
    Column("data_source", JsonText),
)

eval_items = Table(
    "eval_items",
    metadata,
    _sequence(),
    Column("id", Text, nullable=False, unique=True),
    Column("run_id", Text, ForeignKey("eval_runs.id", ondelete="CASCADE"), nullable=False),
    Column("project", SafeText, nullable=False),
    Column("number", BigInteger, nullable=False),  # of the row in its data source, from 0
    Column("item", JsonText),
    Column("given", JsonText),  # the sample that came with the row
    Column("state", Text, nullable=False),  # waiting -> pass | fail | error
    Column("place", BigInteger),  # in the list of what is done: stable while the run goes on
    Column("created_at", BigInteger, nullable=False),
    Column("sample", JsonText),
    Column("results", JsonText),
    Column("bytes", BigInteger, nullable=False),
    Index(None, "run_id", "state", "seq"),
    Index(None, "run_id", "place"),
    sqlite_autoincrement=True,
)

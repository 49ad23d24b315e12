"""The tables by which several servers share limits and work.

All of their rows may be lost at any time: limits then begin full, and work that somebody does is begun once more.
"""

from sqlalchemy import BigInteger, Column, Float, Table, Text

from tunesmith.store.schema.tables import SafeText, metadata

limit_levels = Table(
    "limit_levels",
    metadata,
    Column("project", SafeText, primary_key=True),
    Column("what", Text, primary_key=True),  # requests, tokens or uploads
    Column("per_minute", BigInteger, nullable=False),  # what it holds at most, and by which it fills up
    Column("level", Float(53), nullable=False),  # at the time `at`; below zero: a debt
    Column("at", Float(53), nullable=False),  # Unix seconds by the database's clock
)

limit_running = Table(
    "limit_running",
    metadata,
    Column("project", SafeText, primary_key=True),
    Column("server", Text, primary_key=True),
    Column("running", BigInteger, nullable=False),  # answers under way there
    Column("until", Float(53), nullable=False),  # a server that ended without a word counts until then
)

work_leases = Table(
    "work_leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("until", Float(53), nullable=False),
)

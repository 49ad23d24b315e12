"""Alembic's entry: runs inside the transaction that `store.schema.migrate` holds."""

from alembic import context

from tunesmith.store.schema.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=False,  # the caller's transaction is the one
)
context.run_migrations()

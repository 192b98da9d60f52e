"""What Alembic runs for each command: the tables as described, against the connection that ``store.schema`` gives."""

from alembic import context

from colonnade.store import local_tables, tables  # noqa: F401 - imported to describe its tables

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=tables.metadata,
    compare_type=True,
    render_as_batch=connection.dialect.name == "sqlite",  # SQLite changes a table by copying it
)
with context.begin_transaction():
    context.run_migrations()

"""What Alembic runs to migrate: on the given connection, within its transaction."""

from alembic import context

from deployments.store.sql.migrating import VERSION_TABLE

connection = context.config.attributes["connection"]
context.configure(connection=connection, version_table=VERSION_TABLE)
context.run_migrations()

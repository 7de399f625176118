"""Runs the migrations over the connection that the caller holds; Alembic loads this file."""

from alembic import context

from morphml_ray.database.sql.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()

"""Bringing the schema up to date: by the actor that opens the database, never by workers."""

import threading
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from morphml_ray.database.sql.dialects import Dialect

_ALEMBIC = threading.Lock()  # its ``context`` and ``op`` are global to the process


def migrate(engine: sa.Engine, dialect: Dialect) -> None:
    """Apply what is missing, in one transaction that only one actor of a server runs at a time."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    with _ALEMBIC, engine.begin() as connection:
        dialect.lock_migrations(connection)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

"""Bringing the schema up to date: by the actor that opens the database, never by workers."""

import threading
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from morphml_ray.database.sql.dialects import Dialect
from morphml_ray.database.time_limit import longer

MIGRATION_TIMEOUT_S = 3600.0
"""What changing the tables may take: more than any call, since it would be undone and begun again."""

_ALEMBIC = threading.Lock()  # its ``context`` and ``op`` are global to the process


def migrate(engine: sa.Engine, dialect: Dialect) -> None:
    """Apply what is missing, in one transaction that only one actor of a server runs at a time.

    Where nothing is missing, nothing is written and nobody is waited for.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        dialect.begin(connection)
        if _is_current(connection, config):
            return
    with _ALEMBIC, longer(MIGRATION_TIMEOUT_S), engine.begin() as connection:
        dialect.begin(connection)
        dialect.lock_migrations(connection)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _is_current(connection: sa.Connection, config: Config) -> bool:
    wanted = ScriptDirectory.from_config(config).get_heads()
    return set(MigrationContext.configure(connection).get_current_heads()) == set(wanted)

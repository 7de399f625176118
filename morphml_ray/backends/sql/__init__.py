"""The database on SQLAlchemy Core: PostgreSQL and SQLite."""

from morphml_ray.backends.sql.database import SqlDatabase

__all__ = ["SqlDatabase"]

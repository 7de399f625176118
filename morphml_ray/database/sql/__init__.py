"""The database on SQLAlchemy Core: PostgreSQL and SQLite."""

from morphml_ray.database.sql.database import SqlDatabase

__all__ = ["SqlDatabase"]

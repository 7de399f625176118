"""The tables, as ``migrations/`` makes them; a test keeps the two equal."""

from datetime import datetime, timezone
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, UUID

NAMING = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
}

BigId = sa.BigInteger().with_variant(sa.Integer, "sqlite")
Json = sa.Text().with_variant(JSONB, "postgresql")
Total = sa.Text().with_variant(sa.Numeric(), "postgresql")
"""An exact sum: decimal text on SQLite, which knows no such numbers."""
WriteId = sa.Text().with_variant(UUID(as_uuid=False), "postgresql")


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """Aware UTC in and out, also on SQLite, which keeps no time zones."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Store as UTC."""
        if value is None:
            return None
        utc = value.astimezone(timezone.utc)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Answer with aware UTC."""
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=timezone.utc) if value.tzinfo is None else value.astimezone(timezone.utc)


metadata = sa.MetaData(naming_convention=NAMING)

ACTIVE = ("pending", "running", "succeeded")
"""Statuses under which an evaluation key has its one answer."""


def _reference(column: str, *, nullable: bool = False) -> sa.Column[Any]:
    name = column.partition(".")[0].rstrip("s") + "_id"
    return sa.Column(name, BigId, sa.ForeignKey(column, ondelete="CASCADE"), nullable=nullable)


experiments = sa.Table(
    "experiments",
    metadata,
    sa.Column("id", BigId, primary_key=True),
    sa.Column("write_id", WriteId, nullable=False, unique=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("optimizer", sa.Text),
    sa.Column("objectives", Json, nullable=False),
    sa.Column("fitness_sign", sa.SmallInteger, nullable=False),
    sa.Column("config", Json, nullable=False),
    sa.Column("seed", sa.Text),
    sa.Column("identity", sa.Text, nullable=False),
    sa.Column("tags", Json),
    sa.Column("parent_id", BigId, sa.ForeignKey("experiments.id", ondelete="SET NULL")),
    sa.Column("num_succeeded", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("num_failed", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("num_proposals", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("is_deleted", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.Column("finished_at", UtcDateTime),
    sa.Column("fitness_total", Total, nullable=False, server_default="0"),
    sqlite_autoincrement=True,
)

architectures = sa.Table(
    "architectures",
    metadata,
    sa.Column("id", BigId, primary_key=True),
    sa.Column("key", sa.Text, nullable=False, unique=True),
    sa.Column("spec", sa.LargeBinary, nullable=False),
    sa.Column("codec", sa.Text, nullable=False),
    sa.Column("n_nodes", sa.Integer, nullable=False),
    sa.Column("n_edges", sa.Integer, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sqlite_autoincrement=True,
)

evaluations = sa.Table(
    "evaluations",
    metadata,
    sa.Column("id", BigId, primary_key=True),
    sa.Column("write_id", WriteId, nullable=False, unique=True),
    _reference("experiments.id"),
    sa.Column("architecture_id", BigId, sa.ForeignKey("architectures.id"), nullable=False),
    sa.Column("protocol_hash", sa.Text, nullable=False),
    sa.Column("fidelity_key", sa.Text, nullable=False),
    sa.Column("seed_key", sa.Text, nullable=False),
    sa.Column("replicate", sa.Integer, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("fitness", sa.Double),
    # Mean fitness of the architecture at this fidelity, signed so that less is better; only on the earliest success.
    sa.Column("rank_loss", sa.Double),
    sa.Column("metrics", Json, nullable=False),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("worker_id", sa.Text),
    sa.Column("node_id", sa.Text),
    sa.Column("attempt", sa.Integer, nullable=False, server_default="1"),
    sa.Column("lease_expires_at", UtcDateTime),
    sa.Column("fence", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("queued_at", UtcDateTime),
    sa.Column("started_at", UtcDateTime),
    sa.Column("finished_at", UtcDateTime),
    sa.Column("duration_s", sa.Double, nullable=False),
    sa.Column("error_class", sa.Text),
    sa.Column("error_text", sa.Text),
    # An evaluation is its own first proposal.
    sa.Column("parents", Json, nullable=False, server_default="[]"),
    sqlite_autoincrement=True,
)

_is_active = evaluations.c.status.in_([sa.literal_column(f"'{status}'") for status in ACTIVE])
_is_success = evaluations.c.status == sa.literal_column("'succeeded'")
_is_ranked = evaluations.c.rank_loss.is_not(None)

sa.Index(
    "uq_evaluations_key",
    evaluations.c.architecture_id,
    evaluations.c.experiment_id,
    evaluations.c.protocol_hash,
    evaluations.c.fidelity_key,
    evaluations.c.seed_key,
    evaluations.c.replicate,
    unique=True,
    postgresql_where=_is_active,
    sqlite_where=_is_active,
)
sa.Index("ix_evaluations_architecture", evaluations.c.architecture_id, evaluations.c.experiment_id)
sa.Index(
    "ix_evaluations_rank",
    evaluations.c.experiment_id,
    evaluations.c.rank_loss,
    evaluations.c.id,
    postgresql_where=_is_ranked,
    sqlite_where=_is_ranked,
)
sa.Index(
    "ix_evaluations_fitness",
    evaluations.c.experiment_id,
    evaluations.c.fitness,
    postgresql_where=_is_success,
    sqlite_where=_is_success,
)
sa.Index("ix_evaluations_page", evaluations.c.experiment_id, evaluations.c.id)
sa.Index(
    "ix_evaluations_generation",
    evaluations.c.experiment_id,
    evaluations.c.generation,
    evaluations.c.id,
)

failures = sa.Table(
    "failures",
    metadata,
    sa.Column("experiment_id", BigId, sa.ForeignKey("experiments.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("status", sa.Text, primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
)

# What evaluations do not say: that they answered another one, or were forced.
proposals = sa.Table(
    "proposals",
    metadata,
    sa.Column("id", BigId, primary_key=True),
    sa.Column("write_id", WriteId, nullable=False, unique=True),
    _reference("experiments.id"),
    sa.Column("architecture_id", BigId, sa.ForeignKey("architectures.id"), nullable=False),
    sa.Column("evaluation_id", BigId, sa.ForeignKey("evaluations.id", ondelete="CASCADE"), index=True),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("origin", sa.Text),
    sa.Column("parents", Json, nullable=False),
    sa.Index("ix_proposals_page", "experiment_id", "id"),
    sqlite_autoincrement=True,
)

metric_points = sa.Table(
    "metric_points",
    metadata,
    sa.Column("evaluation_id", BigId, sa.ForeignKey("evaluations.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("step", sa.BigInteger, primary_key=True),
    sa.Column("value", sa.Double),
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("id", BigId, primary_key=True),
    sa.Column("experiment_id", BigId, sa.ForeignKey("experiments.id", ondelete="CASCADE"), index=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("detail", Json, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    # Of a change that a caller asked for: repeating it repeats nothing.
    sa.Column("write_id", WriteId),
    sa.Index("uq_events_write_id", "write_id", unique=True),
    sqlite_autoincrement=True,
)


_SENT_AS_TEXT = (Json, WriteId, Total)


def sent_type(column: sa.Column[Any]) -> "sa.types.TypeEngine[Any]":
    """Give the type in which a value of this column is sent: JSON and write ids are texts on their way."""
    return sa.Text() if column.type in _SENT_AS_TEXT else column.type


def stored_value(column: sa.Column[Any], sent: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Make of a value as it was sent one of this column."""
    return sa.cast(sent, column.type) if column.type in _SENT_AS_TEXT else sent

"""The first schema."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Json = sa.Text().with_variant(postgresql.JSONB(), "postgresql")
Moment = sa.DateTime(timezone=True)
WriteId = sa.Text().with_variant(sa.UUID(as_uuid=False), "postgresql")


def upgrade() -> None:
    """Make all tables."""
    _create_experiments()
    _create_architectures()
    _create_evaluations()
    _create_proposals()
    _create_metric_points()
    _create_events()


def downgrade() -> None:
    """Drop all tables."""
    for table in ("events", "metric_points", "proposals", "evaluations", "architectures", "experiments"):
        op.drop_table(table)


def _create_experiments() -> None:
    op.create_table(
        "experiments",
        sa.Column("id", BigId, nullable=False),
        sa.Column("write_id", WriteId, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("optimizer", sa.Text(), nullable=True),
        sa.Column("objectives", Json, nullable=False),
        sa.Column("fitness_sign", sa.SmallInteger(), nullable=False),
        sa.Column("config", Json, nullable=False),
        sa.Column("seed", sa.Text(), nullable=True),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("tags", Json, nullable=True),
        sa.Column("parent_id", BigId, nullable=True),
        sa.Column("num_succeeded", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("num_failed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("num_proposals", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("fitness_sum", sa.Double(), server_default="0", nullable=False),
        sa.Column("is_deleted", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("updated_at", Moment, nullable=False),
        sa.Column("finished_at", Moment, nullable=True),
        sa.ForeignKeyConstraint(
            ["parent_id"], ["experiments.id"], name=op.f("fk_experiments_parent_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_experiments")),
        sa.UniqueConstraint("name", name=op.f("uq_experiments_name")),
        sa.UniqueConstraint("write_id", name=op.f("uq_experiments_write_id")),
        sqlite_autoincrement=True,
    )


def _create_architectures() -> None:
    op.create_table(
        "architectures",
        sa.Column("id", BigId, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("spec", sa.LargeBinary(), nullable=False),
        sa.Column("codec", sa.Text(), nullable=False),
        sa.Column("n_nodes", sa.Integer(), nullable=False),
        sa.Column("n_edges", sa.Integer(), nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_architectures")),
        sa.UniqueConstraint("key", name=op.f("uq_architectures_key")),
        sqlite_autoincrement=True,
    )


def _create_evaluations() -> None:
    op.create_table(
        "evaluations",
        sa.Column("id", BigId, nullable=False),
        sa.Column("write_id", WriteId, nullable=False),
        sa.Column("experiment_id", BigId, nullable=False),
        sa.Column("architecture_id", BigId, nullable=False),
        sa.Column("protocol_hash", sa.Text(), nullable=False),
        sa.Column("fidelity_key", sa.Text(), nullable=False),
        sa.Column("seed_key", sa.Text(), nullable=False),
        sa.Column("replicate", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("fitness", sa.Double(), nullable=True),
        sa.Column("rank_loss", sa.Double(), nullable=True),
        sa.Column("metrics", Json, nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("worker_id", sa.Text(), nullable=True),
        sa.Column("node_id", sa.Text(), nullable=True),
        sa.Column("attempt", sa.Integer(), server_default="1", nullable=False),
        sa.Column("lease_expires_at", Moment, nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("queued_at", Moment, nullable=True),
        sa.Column("started_at", Moment, nullable=True),
        sa.Column("finished_at", Moment, nullable=True),
        sa.Column("duration_s", sa.Double(), nullable=False),
        sa.Column("error_class", sa.Text(), nullable=True),
        sa.Column("error_text", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["architecture_id"], ["architectures.id"], name=op.f("fk_evaluations_architecture_id")),
        sa.ForeignKeyConstraint(
            ["experiment_id"],
            ["experiments.id"],
            name=op.f("fk_evaluations_experiment_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evaluations")),
        sa.UniqueConstraint("write_id", name=op.f("uq_evaluations_write_id")),
        sqlite_autoincrement=True,
    )
    _index_evaluations()


def _index_evaluations() -> None:
    op.create_index("ix_evaluations_architecture", "evaluations", ["architecture_id", "experiment_id"])
    op.create_index(
        "ix_evaluations_fitness",
        "evaluations",
        ["experiment_id", "fitness"],
        postgresql_where=sa.text("status = 'succeeded'"),
        sqlite_where=sa.text("status = 'succeeded'"),
    )
    op.create_index("ix_evaluations_generation", "evaluations", ["experiment_id", "generation", "id"])
    op.create_index("ix_evaluations_page", "evaluations", ["experiment_id", "id"])
    op.create_index(
        "ix_evaluations_rank",
        "evaluations",
        ["experiment_id", "rank_loss", "id"],
        postgresql_where=sa.text("rank_loss IS NOT NULL"),
        sqlite_where=sa.text("rank_loss IS NOT NULL"),
    )
    op.create_index(
        "uq_evaluations_key",
        "evaluations",
        ["architecture_id", "experiment_id", "protocol_hash", "fidelity_key", "seed_key", "replicate"],
        unique=True,
        postgresql_where=sa.text("status IN ('pending', 'running', 'succeeded')"),
        sqlite_where=sa.text("status IN ('pending', 'running', 'succeeded')"),
    )


def _create_proposals() -> None:
    op.create_table(
        "proposals",
        sa.Column("id", BigId, nullable=False),
        sa.Column("write_id", WriteId, nullable=False),
        sa.Column("experiment_id", BigId, nullable=False),
        sa.Column("architecture_id", BigId, nullable=False),
        sa.Column("evaluation_id", BigId, nullable=True),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=True),
        sa.Column("parents", Json, nullable=False),
        sa.ForeignKeyConstraint(["architecture_id"], ["architectures.id"], name=op.f("fk_proposals_architecture_id")),
        sa.ForeignKeyConstraint(
            ["evaluation_id"], ["evaluations.id"], name=op.f("fk_proposals_evaluation_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiments.id"], name=op.f("fk_proposals_experiment_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_proposals")),
        sa.UniqueConstraint("write_id", name=op.f("uq_proposals_write_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_proposals_evaluation_id"), "proposals", ["evaluation_id"])
    op.create_index("ix_proposals_page", "proposals", ["experiment_id", "id"])


def _create_metric_points() -> None:
    op.create_table(
        "metric_points",
        sa.Column("evaluation_id", BigId, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["evaluation_id"],
            ["evaluations.id"],
            name=op.f("fk_metric_points_evaluation_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("evaluation_id", "name", "step", name=op.f("pk_metric_points")),
    )


def _create_events() -> None:
    op.create_table(
        "events",
        sa.Column("id", BigId, nullable=False),
        sa.Column("experiment_id", BigId, nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("detail", Json, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiments.id"], name=op.f("fk_events_experiment_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_events_experiment_id"), "events", ["experiment_id"])

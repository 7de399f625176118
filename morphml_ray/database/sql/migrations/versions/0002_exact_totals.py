"""Exact sums of fitness, failures counted by status, changes of experiments that are made once."""

from decimal import Decimal, localcontext

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Total = sa.Text().with_variant(sa.Numeric(), "postgresql")
WriteId = sa.Text().with_variant(sa.UUID(as_uuid=False), "postgresql")

DIGITS = 1_000
"""More than any sum of floats has."""


def upgrade() -> None:
    """Add the columns and the table, and fill them from the rows that are there."""
    op.add_column("experiments", sa.Column("fitness_total", Total, nullable=False, server_default="0"))
    op.create_table(
        "failures",
        sa.Column("experiment_id", BigId, nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiments.id"], name=op.f("fk_failures_experiment_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("experiment_id", "status", name=op.f("pk_failures")),
    )
    op.add_column("events", sa.Column("write_id", WriteId))
    op.create_index("uq_events_write_id", "events", ["write_id"], unique=True)
    _fill_totals()
    op.execute(
        "INSERT INTO failures SELECT experiment_id, status, count(*) FROM evaluations "
        "WHERE status NOT IN ('pending', 'running', 'succeeded') GROUP BY experiment_id, status"
    )
    op.drop_column("experiments", "fitness_sum")


def downgrade() -> None:
    """Take them away again."""
    op.add_column("experiments", sa.Column("fitness_sum", sa.Double(), server_default="0", nullable=False))
    op.execute("UPDATE experiments SET fitness_sum = CAST(fitness_total AS DOUBLE PRECISION)")
    op.drop_index("uq_events_write_id", "events")
    op.drop_column("events", "write_id")
    op.drop_table("failures")
    op.drop_column("experiments", "fitness_total")


def _fill_totals() -> None:
    connection = op.get_bind()
    rows = connection.execute(
        sa.text("SELECT experiment_id, fitness FROM evaluations WHERE status = 'succeeded' ORDER BY experiment_id, id")
    )
    totals: dict[int, Decimal] = {}
    with localcontext() as context:
        context.prec = DIGITS
        for number, fitness in rows:
            totals[number] = totals.get(number, Decimal(0)) + Decimal(repr(fitness))
    table = sa.table("experiments", sa.column("id", BigId), sa.column("fitness_total", Total))
    for number, total in totals.items():
        exact = sa.cast(sa.literal(format(total, "f"), sa.Text()), Total)
        connection.execute(sa.update(table).where(table.c.id == number).values(fitness_total=exact))

"""An evaluation is its own proposal: ``proposals`` holds only what evaluations do not say."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"

Json = sa.Text().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Move the parents of first evaluations to them, and free the rows of their proposals."""
    op.add_column("evaluations", sa.Column("parents", Json, nullable=False, server_default="[]"))
    op.execute(
        "UPDATE evaluations SET parents = proposals.parents FROM proposals "
        "WHERE proposals.write_id = evaluations.write_id AND CAST(proposals.parents AS TEXT) <> '[]'"
    )
    op.execute("DELETE FROM proposals WHERE outcome = 'miss'")


def downgrade() -> None:
    """Give every evaluation a row in ``proposals`` again."""
    op.execute(
        "INSERT INTO proposals (write_id, experiment_id, architecture_id, evaluation_id, outcome, generation, parents) "
        "SELECT write_id, experiment_id, architecture_id, id, 'miss', generation, parents FROM evaluations "
        "WHERE NOT EXISTS (SELECT 1 FROM proposals WHERE proposals.write_id = evaluations.write_id) ORDER BY id"
    )
    op.drop_column("evaluations", "parents")

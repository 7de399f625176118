"""What is averaged together: the successes of one architecture, at one fidelity, in one experiment."""

import sqlalchemy as sa

from morphml_ray.database.sql.schema import evaluations

GROUP = ("architecture_id", "protocol_hash", "fidelity_key")
"""What tells the groups of one experiment apart, columns of ``evaluations``."""

_ZERO = sa.literal_column("0", sa.Integer)


def same_group(one: sa.FromClause, other: sa.FromClause) -> list[sa.ColumnElement[bool]]:
    """Say that evaluations of ``one`` are of the group that a row of ``other`` names; an index finds them."""
    columns = [one.c[name] == other.c[name] for name in GROUP]
    return [*columns, in_experiment(one, sa.cast(other.c.experiment_id, sa.BigInteger))]


def in_experiment(table: sa.FromClause, experiment_id: "sa.ColumnElement[int] | int") -> sa.ColumnElement[bool]:
    """Say that evaluations are of an experiment, where their architecture is known.

    The addition keeps planners with stale statistics from walking a whole experiment through another index.
    """
    return table.c.experiment_id + _ZERO == experiment_id


def is_success(table: sa.FromClause = evaluations) -> sa.ColumnElement[bool]:
    """Say that an evaluation counts."""
    return table.c.status == sa.literal_column("'succeeded'")

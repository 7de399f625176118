"""Evaluations as they stand in the tables, read over the driver alone."""

from collections.abc import Mapping
from typing import Any

STATEMENT = """
    SELECT e.id, CAST(e.write_id AS TEXT) AS write_id, a.key, a.spec, a.codec, a.n_nodes, a.n_edges, e.protocol_hash,
           e.fidelity_key, e.seed_key, e.replicate, e.status, e.fitness, CAST(e.metrics AS TEXT) AS metrics,
           e.generation, e.worker_id, e.duration_s, e.error_class, e.error_text, CAST(e.parents AS TEXT) AS parents
    FROM evaluations e
    JOIN architectures a ON a.id = e.architecture_id
    WHERE e.experiment_id = {experiment}
    ORDER BY e.id
"""


def raw_evaluations(connection: Any, experiment: int) -> list[Mapping[str, Any]]:
    """Read all evaluations of an experiment over a connection of the driver."""
    cursor = connection.cursor()
    cursor.execute(STATEMENT.format(experiment=int(experiment)))
    names = [column[0] for column in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return [row | {"spec": bytes(row["spec"])} for row in rows]

"""Top lists: architectures of one experiment, best first."""

import difflib
import math
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import sqlalchemy as sa

from morphml_ray.database.contract import ExperimentRef, Operator
from morphml_ray.database.sql.dialects import Dialect
from morphml_ray.database.sql.groups import GROUP, in_experiment, is_success, same_group
from morphml_ray.database.sql.queries import plain_row, require_experiment, select_records
from morphml_ray.database.sql.schema import evaluations
from morphml_ray.database.wire import RECORD_COLUMNS, Row
from morphml_ray.errors import ValidationError
from morphml_ray.model.plain import decode_json
from morphml_ray.model.records import Direction

_COMPARE: Mapping[Operator, Any] = {
    "<": sa.ColumnElement.__lt__,
    "<=": sa.ColumnElement.__le__,
    ">": sa.ColumnElement.__gt__,
    ">=": sa.ColumnElement.__ge__,
    "==": sa.ColumnElement.__eq__,
    "!=": sa.ColumnElement.__ne__,
}
_PAGE = 64
_GROUPS_AT_ONCE = 500
_LOOKED_AT = 200
"""Evaluations whose metrics are looked at to find names like a wrong one."""
_LARGEST: sa.ColumnElement[float] = sa.literal_column(repr(sys.float_info.max))

_found = evaluations.c
_GROUP = tuple(_found[name] for name in GROUP)


class Ranking:
    """Top architectures of one experiment, one row each.

    Args:
        dialect: of the database.
        connection: in a transaction.
        experiment: id or name.
        fidelity_key: of the evaluations that count; None for any.
        min_seeds: evaluations of one architecture at one fidelity, at least.
    """

    def __init__(
        self,
        dialect: Dialect,
        connection: sa.Connection,
        experiment: ExperimentRef,
        fidelity_key: str | None = None,
        min_seeds: int = 1,
    ) -> None:
        self._dialect = dialect
        self._connection = connection
        self._experiment = require_experiment(connection, experiment)
        self._sign = self._experiment.fitness_sign
        self._objectives: dict[str, Direction] = dict(decode_json(self._experiment.objectives))
        conditions = [_found.experiment_id == self._experiment.id, _found.rank_loss.is_not(None)]
        if fidelity_key is not None:
            conditions.append(_found.fidelity_key == fidelity_key)
        if min_seeds > 1:
            conditions.append(self._count_members() >= min_seeds)
        self._is_lead = sa.and_(*conditions)

    def best(
        self, top_k: int, metric: str | None, mode: Direction | None, where: Mapping[str, tuple[Operator, float]]
    ) -> list[Row]:
        """See ``Database.get_best_architectures``."""
        fitness: sa.ColumnElement[Any] = _found.rank_loss * self._sign
        if metric is None or self._is_fitness(metric):
            is_reversed = mode is not None and (1 if mode == "min" else -1) != self._sign
            score: sa.ColumnElement[Any] = -_found.rank_loss if is_reversed else _found.rank_loss
            query = select_records(fitness, score.label("score"), *_GROUP).where(self._is_lead)
        else:
            query, score = self._by_metric(metric, mode)
        for name, (operator, bound) in where.items():
            query = query.where(_COMPARE[operator](self._value(name), bound))
        rows = self._first_per_architecture(query.order_by(score, _found.id), score, top_k)
        if not rows:
            self._check_names([*(() if metric is None else (metric,)), *where])
        return self._with_spread(rows)

    def _is_fitness(self, metric: str) -> bool:
        return metric in ("fitness", next(iter(self._objectives), None))

    def _value(self, name: str) -> sa.ColumnElement[Any]:
        if self._is_fitness(name):
            mean: sa.ColumnElement[Any] = _found.rank_loss * self._sign
            return mean
        return metric_number(self._connection, _found.metrics, name)

    def _by_metric(self, metric: str, mode: Direction | None) -> tuple[sa.Select[Any], sa.ColumnElement[Any]]:
        """Rank by the mean of a metric over each group; reads the whole experiment."""
        direction = mode or self._objectives.get(metric)
        if direction is None:
            self._check_names([metric])
            raise ValidationError(
                f"nothing says which end of the metric {metric!r} is best: pass mode='max' or mode='min', or name it "
                "in the experiment's objectives"
            )
        member = evaluations.alias("member")
        mean = self._dialect.mean(metric_number(self._connection, member.c.metrics, metric))
        score = mean if direction == "min" else -mean
        group = [member.c[name] for name in GROUP]
        scored = (
            sa.select(*group, score.label("score"))
            .where(member.c.experiment_id == self._experiment.id, is_success(member))
            .group_by(*group)
            .having(mean.is_not(None))
            .subquery("scored")
        )
        same = sa.and_(*(scored.c[name] == _found[name] for name in GROUP))
        query = select_records(_found.rank_loss * self._sign, scored.c.score.label("score"), *_GROUP).join(scored, same)
        return query.where(self._is_lead), scored.c.score

    def _first_per_architecture(
        self, query: sa.Select[Any], score: sa.ColumnElement[Any], top_k: int
    ) -> list[sa.Row[Any]]:
        """Take the best group of each architecture; an architecture has a group for each fidelity."""
        best: dict[str, sa.Row[Any]] = {}
        for row in self._pages(query, score, max(top_k, _PAGE)):
            best.setdefault(row.architecture_hash, row)
            if len(best) >= top_k:
                break
        return list(best.values())

    def _pages(self, query: sa.Select[Any], score: sa.ColumnElement[Any], size: int) -> Iterator[sa.Row[Any]]:
        page = query
        while True:
            rows = list(self._connection.execute(page.limit(size)))
            yield from rows
            if len(rows) < size:
                return
            last = rows[-1]
            page = query.where(sa.tuple_(score, _found.id) > sa.tuple_(last.score, last.id))

    def _count_members(self) -> sa.ColumnElement[int]:
        member = evaluations.alias("member")
        members = (*same_group(member, evaluations), is_success(member))
        return sa.select(sa.func.count()).where(*members).correlate(evaluations).scalar_subquery()

    def _with_spread(self, rows: Iterable[sa.Row[Any]]) -> list[Row]:
        """Say of each row how many evaluations its fitness is the mean of, and how far they are apart."""
        rows = list(rows)
        fitness = self._fitness_of_groups([_group_of(row) for row in rows])
        found = []
        for row in rows:
            values = dict(zip(RECORD_COLUMNS, plain_row(row), strict=True))
            members = fitness[_group_of(row)]
            found.append(tuple((values | {"n": len(members), "std": _deviation(members)}).values()))
        return found

    def _fitness_of_groups(self, groups: Sequence[tuple[Any, ...]]) -> Mapping[tuple[Any, ...], list[float]]:
        fitness: defaultdict[tuple[Any, ...], list[float]] = defaultdict(list)
        remaining = iter(groups)
        while portion := [number for number, *_ in islice(remaining, _GROUPS_AT_ONCE)]:
            query = sa.select(*_GROUP, _found.fitness).where(
                in_experiment(evaluations, self._experiment.id),
                is_success(),
                _found.architecture_id.in_(portion),
            )
            for *group, value in self._connection.execute(query):
                fitness[tuple(group)].append(value)
        return fitness

    def _check_names(self, names: Iterable[str]) -> None:
        """Check that evaluations have such metrics.

        Raises:
            ValidationError: none of them has; the message names what is like it.
        """
        query = sa.select(sa.cast(_found.metrics, sa.Text)).where(_found.experiment_id == self._experiment.id)
        looked_at = self._connection.execute(query.order_by(_found.id.desc()).limit(_LOOKED_AT)).scalars()
        known = {"fitness", *self._objectives, *(name for text in looked_at for name in decode_json(text))}
        for name in names:
            if name not in known and not self._has_metric(name):
                near = difflib.get_close_matches(name, known, n=3) or sorted(known)[:10]
                raise ValidationError(f"no evaluation has a metric {name!r}; there are: {', '.join(near)}")

    def _has_metric(self, name: str) -> bool:
        value = metric_number(self._connection, _found.metrics, name)
        query = sa.select(_found.id).where(_found.experiment_id == self._experiment.id, value.is_not(None)).limit(1)
        return self._connection.execute(query).first() is not None


def _group_of(row: sa.Row[Any]) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in GROUP)


def _deviation(values: Sequence[float]) -> float | None:
    """Give the standard deviation of a sample; None for less than two values."""
    if len(values) < 2:  # noqa: PLR2004 - of one value there is none
        return None
    scale = max(map(abs, values)) or 1.0  # squares of large values are no floats
    scaled = [value / scale for value in values]
    mean = math.fsum(scaled) / len(scaled)
    return scale * math.sqrt(math.fsum((value - mean) ** 2 for value in scaled) / (len(scaled) - 1))


def metric_number(connection: sa.Connection, metrics: sa.ColumnElement[Any], name: str) -> sa.ColumnElement[Any]:
    """Give a metric's number; NULL where it is missing, no number, or an int beyond all floats."""
    if connection.dialect.name == "postgresql":
        value = sa.func.jsonb_extract_path(metrics, name)
        text = sa.func.jsonb_extract_path_text(metrics, name)
        is_number = sa.func.jsonb_typeof(value) == sa.literal_column("'number'")
        # Nested: only what is a number can be cast.
        is_float = sa.func.abs(sa.cast(text, sa.Numeric)) <= _LARGEST
        number = sa.case((is_float, sa.cast(text, sa.Double)), else_=sa.null())
        return sa.case((is_number, number), else_=sa.null())
    each = sa.func.json_each(metrics).table_valued("key", "value", "type", joins_implicitly=True)
    is_number = each.c.type.in_(["integer", "real"])
    is_float = sa.func.abs(each.c.value) <= _LARGEST
    return sa.select(each.c.value).where(each.c.key == name, is_number, is_float).scalar_subquery()

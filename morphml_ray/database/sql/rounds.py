"""How a batch is cut, so that storing it gives what storing its evaluations one by one would give."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from morphml_ray.database.contract import EncodedEvaluation


class Item(NamedTuple):
    """One evaluation on its way in.

    Attributes:
        id: what its row will have, if it gets one.
        experiment_id: where it belongs.
        fitness_sign: of that experiment.
        evaluation: as its caller sent it.
    """

    id: int
    experiment_id: int
    fitness_sign: int
    evaluation: EncodedEvaluation

    @property
    def key(self) -> tuple[Any, ...]:
        """What must be evaluated once only."""
        new = self.evaluation
        return (self.experiment_id, new.key, new.protocol_hash, new.fidelity_key, new.seed_key)


class Round(NamedTuple):
    """A part of a batch.

    Attributes:
        new: what one statement may store: an evaluation key occurs twice only where both are replicates.
        hits: what this round or an earlier one answers, to be looked up when ``new`` is stored.
    """

    new: list[Item]
    hits: list[Item]


def split_rounds(items: Iterable[Item]) -> list[Round]:
    """Cut a batch into rounds, each a stretch of it, so that ids ascend in the order given."""
    rounds = [Round([], [])]
    answered: set[tuple[Any, ...]] = set()
    seen: set[tuple[Any, ...]] = set()
    held: dict[tuple[Any, ...], bool] = {}  # keys of the last round; whether another replicate may join
    for item in items:
        key = item.key
        is_replicate = item.evaluation.on_duplicate == "replicate"
        is_success = item.evaluation.status == "succeeded"
        if not is_replicate and (key in answered or (key in seen and not is_success)):
            rounds[-1].hits.append(item)
            if key not in answered:
                held[key] = False  # a success that came into this round would answer the failure instead
            continue
        if key in held and not (is_replicate and held[key]):
            rounds.append(Round([], []))
            held = {}
        rounds[-1].new.append(item)
        held[key] = is_replicate
        seen.add(key)
        if is_success:
            answered.add(key)
    return rounds

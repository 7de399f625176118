"""The keys of the cache: what may be one, and those of results and states."""

from typing import Any
from urllib.parse import quote

from morphml_ray.errors import ValidationError
from morphml_ray.identity.canonical_json import canonical_json
from morphml_ray.model.arguments import count
from morphml_ray.model.plain import to_plain


def check_key(key: str) -> str:
    """Give a key as a plain text, also that of an Enum's member.

    Raises:
        ValidationError: it is none: no text, or an empty one.
    """
    if not isinstance(key, str) or not key:
        raise ValidationError("a key must be a text that is not empty")
    return str.__str__(key)


def experiment_prefix(experiment_id: int | str) -> str:
    """Give what the keys of an experiment begin with, and no other key.

    Raises:
        ValidationError: the number is below zero, or the text is empty.
    """
    if not isinstance(experiment_id, str):
        experiment_id = str(count(experiment_id, "experiment_id"))
    # Quoted, so that no id is the beginning of another one's keys.
    return f"experiment:{quote(check_key(experiment_id), safe='', errors='surrogatepass')}:"


def result_key(arch_hash: str, experiment_id: int | str | None, seed: Any, fidelity: Any) -> str:
    """Give the key of an architecture's result; what the result depends on is a part of it.

    Raises:
        ValidationError: an argument is no plain data.
    """
    owner = "" if experiment_id is None else experiment_prefix(experiment_id)
    condition = canonical_json([to_plain(seed, "seed", finite=True), to_plain(fidelity, "fidelity", finite=True)])
    return f"{owner}result:{check_key(arch_hash)}" + ("" if condition == "[null,null]" else f":{condition}")


def state_key(experiment_id: int | str, generation: int) -> str:
    """Give the key of an optimizer's state after a generation.

    Raises:
        ValidationError: the experiment or the generation is none.
    """
    return f"{experiment_prefix(experiment_id)}optimizer:{count(generation, 'generation')}"

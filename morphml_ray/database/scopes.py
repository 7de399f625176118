"""How the architectures of experiments are told apart, asked once a process."""

from cachetools import TTLCache

from morphml_ray.database.actor import DatabaseActor
from morphml_ray.database.contract import DatabaseReads, ExperimentRef
from morphml_ray.database.encoding import Scope
from morphml_ray.errors import ConfigurationError
from morphml_ray.rpc.call import call
from morphml_ray.rpc.channel import Channel

KNOWN_S = 10.0
# By database and experiment. An identity never changes, but a name that is given anew may have another one, and so may
# an id in a database that was restored: no answer is kept for long.
_KNOWN: TTLCache[tuple[str, ExperimentRef], Scope] = TTLCache(1_000, KNOWN_S)


def scope_of(channel: Channel, experiment: ExperimentRef) -> Scope:
    """Tell how the architectures of an experiment are told apart.

    Raises:
        ConfigurationError: by a function, which only who made the experiment has.
    """
    key = (channel.place, experiment)
    known = _KNOWN.get(key)
    if known is None:
        found = channel.wait(call(DatabaseActor.read, DatabaseReads.get_experiment, experiment))
        if found is None:  # the save itself will say so
            return Scope(0, "structural")
        if found.identity == "custom":
            raise ConfigurationError(
                f"the experiment {found.name!r} has an identity function of its own: record into it with "
                "storage.experiment(name, identity=...)"
            )
        known = _KNOWN[key] = Scope(found.id, found.identity)  # type: ignore[arg-type]  # the two words, as checked when stored
    return known

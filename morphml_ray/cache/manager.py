"""The cache's facade."""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import ray

from morphml_ray.cache.actor import CacheActor, CacheSettings
from morphml_ray.cache.answers import tell
from morphml_ray.cache.contract import Cache, CacheStatistics
from morphml_ray.cache.keys import check_key, experiment_prefix, result_key, state_key
from morphml_ray.cache.wire import encode_value
from morphml_ray.config import DEFAULT_NAME, DEFAULT_NAMESPACE, DEFAULT_PREFIX, StorageConfig, stash_secret
from morphml_ray.errors import ValidationError
from morphml_ray.model.arguments import count
from morphml_ray.model.plain import to_number
from morphml_ray.rpc.call import Answer, Call, call
from morphml_ray.rpc.channel import Channel, Prepared, Steps
from morphml_ray.rpc.cluster import require_ray
from morphml_ray.rpc.deploy import ActorAddress
from morphml_ray.rpc.remote_method import remote_method
from morphml_ray.rpc.visit import open_actor

DAY_S = 86_400
HOUR_S = 3_600


MAX_CALL_BYTES = 512 * 1024 * 1024
"""Of one value, as Redis has it, and of the values of one call."""


@dataclass(frozen=True)
class _Read(Steps[Any]):
    """A look-up with a default, which need not travel where the caller waits."""

    key: str
    default: Any

    def run(self, channel: Channel) -> Any:
        """See ``Steps.run``."""
        found = channel.wait(call(CacheActor.get_multiple, [self.key], is_strict=True))
        return found.get(self.key, self.default)

    def start(self, channel: Channel) -> "ray.ObjectRef[Any]":
        """See ``Steps.start``."""
        default = None if self.default is None else encode_value(self.key, self.default)
        return channel.submit(call(CacheActor.get, self.key, default))


class DistributedCache:
    """Values under names, for a while, through the cache actor.

    Whatever is in it may be gone at any time, and nothing here raises because the server is unavailable: reads then
    find nothing, and writes are dropped and counted. Every method blocks until its answer is there, and has
    ``.remote(...)``, which returns a Ray ``ObjectRef`` of the same value at once. The object pickles: pass it to
    tasks.

    Args:
        redis_url: ``redis://:password@host:port/0``, ``rediss://...`` with TLS, ``memory://``, ``env:NAME`` or
            ``file:/path``. The running actor of that cache is used, or one is started.
        prefix: tells its keys from those of others on the same server.
        default_ttl: seconds that values are kept where nothing else is said; None sets no limit.

    Raises:
        ConfigurationError: Ray is not initialized, the URL is wrong, or the server refuses the password.
    """

    channel: Channel
    _default_ttl: float | None = None

    def __init__(
        self,
        redis_url: str = "redis://localhost:6379",
        prefix: str = DEFAULT_PREFIX,
        default_ttl: float | None = None,
    ) -> None:
        require_ray()
        self._default_ttl = _ttl(default_ttl)
        settings = cache_settings(StorageConfig(cache=redis_url), prefix)
        own = cache_address(settings.describe().fingerprint, DEFAULT_NAMESPACE)
        self.channel = open_actor(CacheActor, settings, own, shared=cache_address(DEFAULT_NAME, DEFAULT_NAMESPACE))

    @classmethod
    def over(cls, channel: Channel) -> "DistributedCache":
        """Make a facade over an actor that is known already."""
        facade = cls.__new__(cls)
        facade.channel = channel
        return facade

    def __repr__(self) -> str:
        return f"DistributedCache({self.channel.place!r})"

    def close(self) -> None:
        """Do nothing: the actor serves others too; ``shutdown()`` ends it."""

    def shutdown(self) -> None:
        """End the actor, for everybody; what a server keeps stays there."""
        self.channel.shutdown()

    @remote_method
    def set(self, key: str, value: Any, ttl: float | None = None) -> Prepared[bool]:
        """Keep a value; False where it was dropped: the server is unavailable or refuses, or it is too large.

        That it is too large is a warning in this process's log, which names the limit and what sets it.

        Args:
            key: any text that is not empty.
            value: plain data and numpy come back with their types; anything else is pickled and signed.
            ttl: seconds, above 0; None means ``default_ttl``.

        Raises:
            ValidationError: the key or the time is wrong, or the value cannot be pickled or holds an ``ObjectRef``.
        """
        return _set_one(key, value, self._seconds(ttl))

    @remote_method
    def get(self, key: str, default: Any = None) -> Steps[Any]:
        """Give the value, or ``default`` where there is none; a stored None is a value.

        Args:
            key: what to look for.
            default: comes back as the same object, but from ``.remote`` as a copy of it.

        Raises:
            UntrustedDataError: a pickle that was not signed with this cluster's key for this name; it was not read.
            CorruptDataError: the bytes are no value, or one whose class cannot be rebuilt in this process.
        """
        return _Read(check_key(key), default)

    @remote_method
    def delete(self, key: str) -> Call[bool]:
        """Delete a key; False where there was none, also where a killed actor had deleted it just before."""
        return call(CacheActor.delete, check_key(key))

    @remote_method
    def exists(self, key: str) -> Call[bool]:
        """Tell whether there is a value."""
        return call(CacheActor.exists, check_key(key))

    @remote_method
    def cache_architecture_result(
        self,
        arch_hash: str,
        result: Any,
        ttl: float | None = DAY_S,
        *,
        experiment_id: int | str | None = None,
        seed: Any = None,
        fidelity: Any = None,
    ) -> Prepared[bool]:
        """Keep the result of an architecture.

        What the result depends on belongs to its key: the experiment, the seed, the fidelity. A result that was kept
        without them is found without them only.

        Args:
            arch_hash: as ``DatabaseManager.hash_architecture`` gives it.
            result: any value.
            ttl: seconds.
            experiment_id: ``invalidate_experiment`` deletes what was kept with it.
            seed: of the evaluation.
            fidelity: of the evaluation.

        Raises:
            ValidationError: an argument cannot be stored.
        """
        return _set_one(result_key(arch_hash, experiment_id, seed, fidelity), result, self._seconds(ttl))

    @remote_method
    def get_architecture_result(
        self, arch_hash: str, *, experiment_id: int | str | None = None, seed: Any = None, fidelity: Any = None
    ) -> Call[Any]:
        """Give the result kept under the same arguments, or None.

        None means that no result is kept, or that None itself is: keep anything else, such as ``{}``, for a failure.
        """
        return call(CacheActor.get, result_key(arch_hash, experiment_id, seed, fidelity), None)

    @remote_method
    def cache_optimizer_state(
        self, experiment_id: int | str, generation: int, state: Any, ttl: float | None = HOUR_S
    ) -> Prepared[bool]:
        """Keep the state of an optimizer after a generation."""
        return _set_one(state_key(experiment_id, generation), state, self._seconds(ttl))

    @remote_method
    def get_optimizer_state(self, experiment_id: int | str, generation: int) -> Call[Any]:
        """Give the state of an optimizer after a generation; None means that none is kept: an empty one is a value."""
        return call(CacheActor.get, state_key(experiment_id, generation), None)

    @remote_method
    def invalidate_pattern(self, pattern: str) -> Call[int]:
        """Delete the keys of this cache that match a pattern of Redis (``*``, ``?``, ``[a-c]``); gives how many."""
        return call(CacheActor.run_long, Cache.delete_matching, check_key(pattern))

    @remote_method
    def invalidate_experiment(self, experiment_id: int | str) -> Call[int]:
        """Delete the results and states kept with this ``experiment_id``; gives how many there were.

        It is compared as text: keep and invalidate with the same one, the number that ``create_experiment`` gave.
        Results that were kept without an experiment stay.
        """
        return call(CacheActor.run_long, Cache.delete_prefix, experiment_prefix(experiment_id))

    @remote_method
    def get_statistics(self) -> Call[CacheStatistics]:
        """Count: hits, misses, hit_rate (percent), num_keys, dropped_writes, errors, outages, of this prefix."""
        return call(CacheActor.run_long, Cache.statistics)

    @remote_method
    def clear_all(self) -> Call[int]:
        """Delete all keys of this prefix, and of no other; gives how many there were."""
        return call(CacheActor.run_long, Cache.clear)

    @remote_method
    def set_multiple(self, mapping: Mapping[str, Any], ttl: float | None = None) -> Call[int]:
        """Keep values in one call and one round trip; gives how many the cache took.

        Raises:
            ValidationError: as ``set``; or the values have more than 512 MB together.
        """
        items = [_item(key, value) for key, value in _mapping(mapping).items()]
        small = [(key, data) for key, data in items if not _is_too_large(data)]
        if sum(len(data) for _, data in small) > MAX_CALL_BYTES:
            raise ValidationError(f"the values have over {MAX_CALL_BYTES:,} bytes together: keep fewer in a call")
        return call(CacheActor.set_multiple, small, self._seconds(ttl))

    @remote_method
    def get_multiple(self, keys: Iterable[str]) -> Call[dict[str, Any]]:
        """Give the values of keys in one call and one round trip; missing keys are left out.

        So is a value that cannot be read in this process, with one warning in the log.

        Raises:
            UntrustedDataError: one of them is a pickle that was not signed with this cluster's key for its name.
        """
        if isinstance(keys, str):
            raise ValidationError("keys must be several keys, not one text")
        return call(CacheActor.get_multiple, [check_key(key) for key in keys])

    @remote_method
    def increment(self, key: str, amount: int = 1) -> Call[int | None]:
        """Add to a counter, which begins at 0; gives its value, None where the server is unavailable.

        Raises:
            ValidationError: the value is no whole number, or would not fit into 64 bits.
        """
        return call(
            CacheActor.run, Cache.increment, check_key(key), count(amount, "amount", -(2**63)), uuid.uuid4().hex
        )

    @remote_method
    def decrement(self, key: str, amount: int = 1) -> Call[int | None]:
        """Take from a counter; see ``increment``."""
        return call(
            CacheActor.run, Cache.increment, check_key(key), -count(amount, "amount", -(2**63) + 1), uuid.uuid4().hex
        )

    @remote_method
    def get_ttl(self, key: str) -> Call[float | None]:
        """Give the seconds a key has left; None where it has no limit.

        Raises:
            NotFoundError: there is no such key.
        """
        return call(CacheActor.run, Cache.ttl_s, check_key(key))

    def _seconds(self, ttl: float | None) -> float | None:
        return self._default_ttl if ttl is None else _ttl(ttl)


def cache_settings(config: StorageConfig, prefix: str) -> CacheSettings:
    """Take what the cache actor needs from the settings, with secrets stashed away."""
    return CacheSettings(
        url=stash_secret(config.cache_url),
        prefix=check_key(prefix),
        timeout_s=config.cache_timeout_s,
        deadline_s=config.deadline_s,
    )


def cache_address(name: str, namespace: str) -> ActorAddress:
    """Tell where the cache actor of a storage is found."""
    return ActorAddress(f"cache:{name}", namespace)


def _set_one(key: str, value: Any, ttl_s: float | None) -> Prepared[bool]:
    name, data = _item(key, value)
    return Answer(value=False) if _is_too_large(data) else call(CacheActor.set, name, data, ttl_s)


def _is_too_large(data: bytes) -> bool:
    """Tell whether no cache takes a value, and warn; so large a one does not even travel."""
    is_too_large = len(data) > MAX_CALL_BYTES
    return tell(is_too_large, len(data) if is_too_large else None, "no value may have more than 512 MB, as in Redis")


def _item(key: str, value: Any) -> tuple[str, bytes]:
    checked = check_key(key)
    return checked, encode_value(checked, value)


def _mapping(mapping: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(mapping, Mapping):
        raise ValidationError(f"values must come under their keys, in a mapping, not in {type(mapping).__name__}")
    return mapping


def _ttl(ttl: float | None) -> float | None:
    seconds = to_number(ttl, "ttl")
    if seconds is not None and not seconds > 0:
        raise ValidationError(f"ttl must be above 0 seconds, or None for no limit, not {ttl!r}")
    return seconds

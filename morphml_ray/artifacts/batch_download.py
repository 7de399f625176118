"""Many objects for one caller: small ones in few calls, large ones each in its own, so that no call holds them all."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from morphml_ray.artifacts.actor.actor import ArtifactActor
from morphml_ray.artifacts.actor.batches import BATCH
from morphml_ray.errors import NotFoundError
from morphml_ray.rpc.call import call
from morphml_ray.rpc.channel import Channel, Steps

if TYPE_CHECKING:
    import ray

IN_FLIGHT = 3

T = TypeVar("T")
S = TypeVar("S")


@dataclass(frozen=True)
class BatchDownload(Steps[dict[str, bytes]]):
    """Whole objects by their keys; gives those that are there, in the order of the keys.

    Attributes:
        keys: checked.
    """

    keys: Sequence[str]

    def run(self, channel: Channel) -> dict[str, bytes]:
        """See ``Steps.run``."""
        found: dict[str, bytes] = {}
        large: list[str] = []
        batches = [self.keys[start : start + BATCH] for start in range(0, len(self.keys), BATCH)]
        looks = [call(ArtifactActor.get_small, keys) for keys in batches]
        for look, ref in sent_ahead(looks, channel.submit, IN_FLIGHT):
            small, left = channel.result_of(look, ref)
            found.update(small)
            large.extend(left)
        reads = [call(ArtifactActor.get, key, 0, None) for key in large]
        for key, (read, whole) in zip(large, sent_ahead(reads, channel.submit, IN_FLIGHT), strict=True):
            with suppress(NotFoundError):  # deleted since
                found[key] = channel.result_of(read, whole)
        return {key: found[key] for key in self.keys if key in found}

    def start(self, channel: Channel) -> "ray.ObjectRef[dict[str, bytes]]":
        """See ``Steps.start``."""
        return channel.submit(call(ArtifactActor.get_multiple, self.keys))


def sent_ahead(items: Iterable[T], send: Callable[[T], S], depth: int) -> Iterator[tuple[T, S]]:
    """Send something for each item, up to ``depth`` side by side; gives the items, in order, with what was sent."""
    waiting = iter(items)
    in_flight: deque[tuple[T, S]] = deque()
    while True:
        in_flight.extend((item, send(item)) for item in islice(waiting, depth - len(in_flight)))
        if not in_flight:
            return
        yield in_flight.popleft()

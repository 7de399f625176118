"""Many objects for one caller: small ones in few calls, large ones each in its own, so that no call holds them all."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from morphml_ray.artifacts.actor.actor import ArtifactActor
from morphml_ray.artifacts.actor.batches import BATCH
from morphml_ray.errors import NotFoundError
from morphml_ray.rpc.call import Call, call
from morphml_ray.rpc.channel import Channel, Steps

if TYPE_CHECKING:
    import ray

IN_FLIGHT = 3

T = TypeVar("T")


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
        for batch in _overlap(channel, [call(ArtifactActor.get_small, keys) for keys in batches]):
            small, left = batch()
            found.update(small)
            large.extend(left)
        wholes = _overlap(channel, [call(ArtifactActor.get, key, 0, None) for key in large])
        for key, whole in zip(large, wholes, strict=True):
            with suppress(NotFoundError):  # deleted since
                found[key] = whole()
        return {key: found[key] for key in self.keys if key in found}

    def start(self, channel: Channel) -> "ray.ObjectRef[dict[str, bytes]]":
        """See ``Steps.start``."""
        return channel.submit(call(ArtifactActor.get_multiple, self.keys))


def _overlap(channel: Channel, calls: Sequence[Call[T]]) -> Iterator[Callable[[], T]]:
    """Send calls side by side; gives, in order, what waits for the answer of each."""
    waiting = deque(calls)
    in_flight: deque[Callable[[], T]] = deque()
    while waiting or in_flight:
        while waiting and len(in_flight) < IN_FLIGHT:
            sent = waiting.popleft()
            in_flight.append(partial(channel.result_of, sent, channel.submit(sent)))
        yield in_flight.popleft()

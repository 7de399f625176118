"""All evaluations of an experiment, page by page."""

from collections.abc import Iterator
from dataclasses import dataclass

import ray

from morphml_ray.database.actor import DatabaseActor
from morphml_ray.database.contract import DatabaseReads
from morphml_ray.model.records import ArchitectureRecord
from morphml_ray.rpc.call import call
from morphml_ray.rpc.channel import Channel, Steps

PAGE = 5_000


@dataclass(frozen=True)
class History(Steps[list[ArchitectureRecord]]):
    """Reads all evaluations.

    Attributes:
        experiment_id: of the experiment.
    """

    experiment_id: int

    def run(self, channel: Channel) -> list[ArchitectureRecord]:
        """See ``Steps.run``."""
        return list(pages(channel, self.experiment_id))

    def start(self, channel: Channel) -> "ray.ObjectRef[list[ArchitectureRecord]]":
        """See ``Steps.start``; returns when all is read."""
        return ray.put(self.run(channel))


def pages(channel: Channel, experiment_id: int) -> Iterator[ArchitectureRecord]:
    """Read evaluations by ascending id, a page a call.

    Raises:
        NotFoundError: there is no such experiment.
    """
    after_id = None
    while True:
        listing = call(
            DatabaseActor.read_long, DatabaseReads.list_architectures, experiment_id, None, None, after_id, PAGE
        )
        page = channel.wait(listing)
        yield from page
        after_id = page.last_id
        if after_id is None:
            return

"""What an actor tells of itself, so that a client knows whether it is the one it wants."""

from dataclasses import dataclass
from typing import Any, Protocol

from morphml_ray.config import BackendUrl

PROTOCOL_VERSION = 1
"""Changes when clients and actors of different versions no longer understand each other."""


@dataclass(frozen=True)
class ActorDescription:
    """What a client compares before it uses an actor that was there already.

    Attributes:
        protocol_version: ``PROTOCOL_VERSION`` of the actor's process.
        fingerprint: of what it serves and of what changes the stored data.
        url: what it serves; references to secrets, never secrets.
        deadline_s: how long it waits for its backend, seconds.
    """

    protocol_version: int
    fingerprint: str
    url: BackendUrl
    deadline_s: float

    @property
    def place(self) -> str:
        """What it serves, as it may be shown."""
        return self.url.masked


class Settings(Protocol):
    """What an actor is made of."""

    @property
    def url(self) -> BackendUrl:
        """What it serves; references to secrets, never secrets."""

    def describe(self) -> ActorDescription:
        """Tell what an actor of these settings serves."""


class StorageActor(Protocol):
    """What every actor of ours answers, as a plain method or as a coroutine."""

    def describe(self) -> ActorDescription:
        """Tell what this actor serves, without connecting."""

    def ready(self) -> None:
        """Connect now.

        Raises:
            ConfigurationError: no waiting helps.
            BackendUnavailable: the backend did not answer within the deadline.
        """

    def verify(self, url: BackendUrl) -> None:
        """Check what somebody else states of the backend that this actor serves.

        Raises:
            ConfigurationError: with that nobody is let in.
            BackendUnavailable: the backend does not answer.
        """

    def health(self) -> dict[str, Any]:
        """Tell the actor's status; answers while everything else is busy, and asks no server."""

    def close(self) -> None:
        """Finish what was taken, and close all connections."""

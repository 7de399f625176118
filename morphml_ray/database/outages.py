"""Outages: kinds that the actor treats in a way of their own, and what is told of one that lasts."""

import logging

from morphml_ray import errors
from morphml_ray.errors import BackendUnavailable, MorphMLRayError

logger = logging.getLogger(__name__)


class LockedError(BackendUnavailable):
    """Somebody else holds a lock on what a write needs: other writes can go on."""


class CommitLostError(BackendUnavailable):
    """The answer to a commit did not come: the write may be stored."""


class UnknownHostError(BackendUnavailable):
    """The name service knows no such host: at the first opening no waiting helps."""


def public_error(error: MorphMLRayError) -> MorphMLRayError:
    """Make a new error of the public class: each caller raises its own, for every raise lengthens its traceback."""
    public = next(cls for cls in type(error).__mro__ if cls.__module__ == errors.__name__)
    told: MorphMLRayError = public(str(error))
    return told


class OutageNote:
    """What is told of an outage while it lasts; its beginning is logged at once.

    Args:
        who: waits, for the log.

    Attributes:
        text: the newest error; None while all is well.
    """

    def __init__(self, who: str) -> None:
        self._who = who
        self.text: str | None = None

    def begin(self, error: MorphMLRayError) -> None:
        """Note an error of an outage, which may go on already."""
        if self.text is None:
            logger.warning("%s: %s", self._who, error)
        self.text = str(error)

    def end(self) -> None:
        """Note an answer."""
        if self.text is not None:
            logger.warning("%s no more", self._who)
        self.text = None

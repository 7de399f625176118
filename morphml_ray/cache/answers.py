"""What a caller is told of a write, in its own log: the actor's is read by few."""

import logging
from typing import Any, TypeVar

from morphml_ray.rpc.call import Encoded

_log = logging.getLogger(__name__)
_told: set[str] = set()

R = TypeVar("R")


class Written(Encoded[R]):
    """The answer to a write on its way to the caller, and why part of it can never be kept.

    Args:
        answer: what the caller gets.
        size_bytes: of the largest name and value that were too large; None where there was none.
        limit: what they were too large for, and what sets that.
    """

    def __init__(self, answer: R, size_bytes: int | None, limit: str) -> None:
        self._answer = answer
        self._size_bytes = size_bytes
        self._limit = limit

    def __reduce__(self) -> tuple[Any, ...]:
        """Tell it where it is unpickled."""
        return tell, (self._answer, self._size_bytes, self._limit)


def tell(answer: R, size_bytes: int | None, limit: str) -> R:
    """Give an answer, and warn of a limit, once a process."""
    if size_bytes is not None and limit not in _told:
        _told.add(limit)
        _log.warning("the cache did not keep a value of %s bytes: %s", f"{size_bytes:,}", limit)
    return answer

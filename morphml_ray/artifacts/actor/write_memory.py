"""Writes that an actor is asked for once more: what they would change is done already, or another one's by now.

A call comes again in the next process of the actor, when this one was killed before its answer arrived; in the same
one, when the connection broke or the store's own answer was lost. Its write id stays the same. So a repeat looks first:
where its own object stands, or one whose write began later, it has happened, and changes nothing.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

from morphml_ray.artifacts.checks import WriteRequest, check_folder
from morphml_ray.artifacts.contract import ArtifactBackend, ObjectInfo
from morphml_ray.artifacts.write_id import began_ns
from morphml_ray.errors import CorruptDataError

_REMEMBERED = 10_000
_UNANSWERED = object()
_CLOCKS_S = 60.0
"""What was written so long before is older by any clock."""

T = TypeVar("T")


class WriteMemory:
    """The last writes of one process of an actor; thread-safe, and blocks where it asks the store.

    Args:
        since_ns: when the process began, nanoseconds since the epoch; a write that began before is a repeat, or came
            while the actor started.
    """

    def __init__(self, since_ns: int | None = None) -> None:
        self._since_ns = time.time_ns() if since_ns is None else since_ns
        self._lock = threading.Lock()
        self._answers: OrderedDict[str, Any] = OrderedDict()
        # Keys, and prefixes with their slash, with the times when their deletions began.
        self._deleted: OrderedDict[str, int] = OrderedDict()

    def put(self, backend: ArtifactBackend, write: WriteRequest, store: Callable[[], ObjectInfo]) -> str:
        """Store an object, unless that has happened; gives its key."""

        def repeat(_: int) -> str:
            return write.key if self.is_settled(backend, write) else store().key

        return self._once(write.write_id, lambda: store().key, repeat)

    def is_settled(self, backend: ArtifactBackend, write: WriteRequest) -> bool:
        """Tell whether a write has happened, or would come after one that began later."""
        began = began_ns(write.write_id)
        found = _look(backend, write.key)
        if began is None:
            return found is not None and found.write_id == write.write_id
        if found is not None:
            # Who wants no other object there is told so by the store.
            return found.write_id == write.write_id or (not write.if_absent and _began_later(found, began))
        segments = write.key.split("/")
        places = [write.key, *("/".join(segments[:depth]) + "/" for depth in range(1, len(segments) + 1))]
        with self._lock:
            return any(self._deleted.get(place, 0) > began for place in places)

    def delete(self, backend: ArtifactBackend, key: str, write_id: str) -> bool:
        """Delete an object, unless a later write put it there; a repeat cannot tell whether there was one: True."""

        def repeat(began: int) -> bool:
            _delete_older(backend, key, began)
            return True

        return self._delete(key, write_id, lambda: backend.delete(key), repeat)

    def delete_prefix(self, backend: ArtifactBackend, prefix: str, write_id: str) -> int:
        """Delete what is below a prefix, but not what later writes put there; a repeat counts what it finds."""
        folder = check_folder(prefix)

        def repeat(began: int) -> int:
            # What is older by any clock needs no look at each.
            sure_s = began / 1e9 - _CLOCKS_S
            found = [(info.key, info.last_modified.timestamp() < sure_s) for info in backend.list(f"{folder}/")]
            if not prefix.endswith("/"):
                found.append((folder, False))
            return sum(backend.delete(key) if is_sure else _delete_older(backend, key, began) for key, is_sure in found)

        return self._delete(f"{folder}/", write_id, lambda: backend.delete_prefix(prefix), repeat)

    def _delete(self, place: str, write_id: str, delete: Callable[[], T], repeat: Callable[[int], T]) -> T:
        answer = self._once(write_id, delete, repeat)
        with self._lock:
            began = began_ns(write_id) or time.time_ns()
            self._deleted[place] = max(began, self._deleted.pop(place, 0))
            _shorten(self._deleted)
        return answer

    def _once(self, write_id: str, run: Callable[[], T], repeat: Callable[[int], T]) -> T:
        """Run a write; where it may have happened already, as a repeat."""
        began = began_ns(write_id)
        with self._lock:
            known = self._answers.get(write_id)
            self._answers[write_id] = _UNANSWERED if known is None else known
            _shorten(self._answers)
        if known is not None and known is not _UNANSWERED:
            answered: T = known
            return answered
        is_repeat = began is not None and (known is not None or began < self._since_ns)
        answer = repeat(began) if is_repeat and began is not None else run()
        with self._lock:
            self._answers[write_id] = answer
        return answer


def _delete_older(backend: ArtifactBackend, key: str, began: int) -> bool:
    """Delete an object that no later write put there; tells whether there was one."""
    found = _look(backend, key)
    return (found is None or not _began_later(found, began)) and backend.delete(key)


def _look(backend: ArtifactBackend, key: str) -> ObjectInfo | None:
    """Look at an object; a damaged one is as good as none."""
    try:
        return backend.head(key)
    except CorruptDataError:
        return None


def _began_later(found: ObjectInfo, began: int) -> bool:
    """Tell whether an object is of a write that began after another one; of a stranger's, when it was written."""
    theirs = began_ns(found.write_id)
    return (found.last_modified.timestamp() * 1e9 if theirs is None else theirs) > began


def _shorten(remembered: OrderedDict[str, Any]) -> None:
    if len(remembered) > _REMEMBERED:
        remembered.popitem(last=False)

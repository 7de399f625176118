"""Who came to an actor and has not left: so that nobody ends one that others use."""

import threading
import time
from collections.abc import Callable

from morphml_ray.rpc.description import ActorDescription, Settings

MAX_GUESTS = 1_000
GUEST_ALLOWANCE_S = 300.0


class Reception:
    """What Ray's shell adds to the plain class of an actor.

    Whoever connects is a guest. One who fails to connect leaves; who leaves last ends the actor. One who connects
    stays for good, so an actor that somebody has connected to is ended by a shutdown only.

    Args:
        settings: what the actor is made of.
        creator: the first guest.
        clock: gives the time in seconds; it never goes back.
    """

    def __init__(self, settings: Settings, creator: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(settings)  # type: ignore[call-arg]  # the plain class comes next
        self._reception_lock = threading.Lock()
        self._description = settings.describe()
        self._guests = {creator: clock()}
        self._clock = clock
        self._is_retired = False

    def arrive(self, guest: str) -> ActorDescription | None:
        """Take a guest in, and tell what this actor serves; None where it is about to end."""
        with self._reception_lock:
            if self._is_retired:
                return None
            if len(self._guests) < MAX_GUESTS:  # so many do not all leave: who is not listed cannot be the last
                self._guests[guest] = self._clock()
            return self._description

    def leave(self, guest: str, *, is_open: bool) -> bool:
        """Let a guest go; True where nobody is left: then this actor takes nobody in again, and is to be ended.

        Args:
            guest: who could not connect.
            is_open: the backend answers, so that all who came may have connected. Otherwise whoever came long ago was
                killed while it waited.
        """
        with self._reception_lock:
            if guest not in self._guests:
                return False
            del self._guests[guest]
            if not is_open:
                # Nobody waits longer: twice for the backend, once for the actor.
                oldest = self._clock() - 2 * self._description.deadline_s - GUEST_ALLOWANCE_S
                self._guests = {name: came_at for name, came_at in self._guests.items() if came_at >= oldest}
            self._is_retired = self._is_retired or not self._guests
            return self._is_retired

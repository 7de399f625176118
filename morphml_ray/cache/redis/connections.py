"""Open connections to one server, to be used by one thread each."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from redis import exceptions
from redis.connection import Connection, SSLConnection

from morphml_ray.cache.redis.pace import Pace, PacedSocket


class _Paced:
    """Makes the sockets of a connection keep to a pace."""

    pace: Pace

    def _connect(self) -> PacedSocket:
        return PacedSocket(super()._connect(), self.pace)  # type: ignore[misc]  # of the class it is mixed into


class _PlainConnection(_Paced, Connection):
    pass


class _TlsConnection(_Paced, SSLConnection):
    pass


class Connections:
    """Connections that are kept open; who comes when all are in use waits.

    Args:
        options: as the driver reads them from a URL.
        pool_size: how many at most.
        timeout_s: how long nothing may move, and how long a connection is waited for.
        longest_s: how long one exchange may take.
    """

    def __init__(self, options: Mapping[str, Any], *, pool_size: int, timeout_s: float, longest_s: float) -> None:
        self._kind = _TlsConnection if options.get("connection_class") is SSLConnection else _PlainConnection
        self._options = {name: value for name, value in options.items() if name != "connection_class"}
        self._timeout_s = timeout_s
        self._longest_s = longest_s
        self._places = threading.BoundedSemaphore(pool_size)
        self._lock = threading.Lock()
        self._idle: list[Any] = []
        self._epoch = 0
        self._is_closed = False

    @contextmanager
    def one(self) -> Iterator[Any]:
        """Lend a connection; after an error within it is closed, and so are all the others that were open.

        What is still to come on it would be taken for replies to others, and the others lead to the same server,
        whatever the name means by now.

        Raises:
            redis.exceptions.RedisError: none became free in time, or the server does not let it in.
        """
        if not self._places.acquire(timeout=self._timeout_s):
            raise exceptions.TimeoutError("no connection became free")
        try:
            epoch, connection = self._take()
            try:
                connection.connect()
                yield connection
            except BaseException:
                connection.disconnect()
                self.renew()
                raise
            self._give_back(epoch, connection)
        finally:
            self._places.release()

    def renew(self) -> None:
        """Close all connections, those in use after their use: the next ones look the server up anew."""
        with self._lock:
            self._epoch += 1
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.disconnect()

    def close(self) -> None:
        """Close all connections, and make no more."""
        self._is_closed = True
        self.renew()

    def _take(self) -> tuple[int, Any]:
        with self._lock:
            if self._is_closed:
                raise exceptions.ConnectionError("the pool is closed")
            epoch = self._epoch
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            pace = Pace(self._timeout_s, self._longest_s)
            connection = self._kind(**self._options)
            connection.pace = pace
        elif _is_stale(connection):
            connection.disconnect()
        connection.pace.begin()
        return epoch, connection

    def _give_back(self, epoch: int, connection: Any) -> None:
        with self._lock:
            is_kept = epoch == self._epoch
            if is_kept:
                self._idle.append(connection)
        if not is_kept:
            connection.disconnect()


def _is_stale(connection: Any) -> bool:
    """Tell whether the server has closed an idle connection, or has said something that nobody asked."""
    try:
        return bool(connection.can_read())
    except (exceptions.RedisError, OSError):
        return True

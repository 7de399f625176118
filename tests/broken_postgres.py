"""PostgreSQL that hangs, and a way to it that breaks at a chosen moment."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import psycopg2
from servers import family_of

from morphml_ray.devstack import DevStack


@contextmanager
def hung(devstack: DevStack) -> Iterator[None]:
    """Stop all processes of PostgreSQL as they are: its sockets stay open, and its machine acknowledges what comes."""
    servers = [seen.process for seen in family_of(devstack) if seen.name == "postgres"]
    for process in servers:
        process.suspend()
    try:
        yield
    finally:
        for process in servers:
            process.resume()


@contextmanager
def row_lock(url: str, experiment: str) -> Iterator[None]:
    """Hold the row of an experiment, as another session may."""
    with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM experiments WHERE name = %s FOR UPDATE", (experiment,))
        yield


class Proxy:
    """Leads to a server, and can lose the answer to the next commit.

    Attributes:
        url: the server's, by this way.
        loses_commits: break the connection when a commit has reached the server, and let nobody in afterwards.
        lost: how many answers were lost.
    """

    def __init__(self, url: str) -> None:
        found = urlsplit(url)
        self._server = (found.hostname or "", found.port or 0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.url = url.replace(f":{found.port}/", f":{port}/")
        self.loses_commits = False
        self.lost = 0
        self._is_open = True
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = [self._listener]
        self._start(self._accept)

    def close(self) -> None:
        self._is_open = False
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(10)

    def _start(self, run: object, *arguments: socket.socket) -> None:
        assert callable(run)
        thread = threading.Thread(target=run, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while self._is_open:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.lost and self.loses_commits:
                client.close()
                continue
            server = socket.create_connection(self._server)
            self._sockets += [client, server]
            self._start(self._send, client, server)
            self._start(self._answer, client, server)

    def _send(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                if self.loses_commits and b"COMMIT\0" in data:
                    self.lost += 1
                    # From here on nothing comes back; the server has the commit.
                    client.shutdown(socket.SHUT_RDWR)
                server.sendall(data)
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_WR)

    def _answer(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)

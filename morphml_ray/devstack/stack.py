"""All servers of the devstack, started and stopped together."""

import contextlib
import select
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

from morphml_ray.devstack.postgres import PostgresServer
from morphml_ray.devstack.seaweedfs import SeaweedServer
from morphml_ray.devstack.server import SupervisedServer
from morphml_ray.devstack.valkey import ValkeyServer
from morphml_ray.errors import BackendUnavailable

DEFAULT_DIRECTORY = "devstack"


class DevStack:
    """Real servers in one directory, for as long as a ``with`` block lasts.

    Started again in the same directory, they go on with the same data and passwords. They listen on the
    loopback device only, and end with this process, however that ends.

    Args:
        directory: where the servers keep everything; made when it is not there.
        max_connections: how many clients PostgreSQL admits.

    Attributes:
        postgres: the PostgreSQL server.
        valkey: the cache server.
        seaweed: the S3 server.
        servers: all servers.
    """

    def __init__(self, directory: str | Path = DEFAULT_DIRECTORY, *, max_connections: int = 100) -> None:
        self.directory = Path(directory).absolute()
        self.postgres = PostgresServer(self.directory, max_connections=max_connections)
        self.valkey = ValkeyServer(self.directory)
        self.seaweed = SeaweedServer(self.directory)
        self.servers: tuple[SupervisedServer, ...] = (self.postgres, self.valkey, self.seaweed)
        self._started = contextlib.ExitStack()

    @property
    def database_url(self) -> str:
        """The URL of the database ``morphml``, with the password."""
        return self.postgres.url

    @property
    def cache_url(self) -> str:
        """The URL of the cache, with the password."""
        return self.valkey.url

    @property
    def artifacts_url(self) -> str:
        """The URL of the bucket for artifacts, without credentials; ``exports`` has them."""
        return self.seaweed.url

    def exports(self) -> dict[str, str]:
        """Give the environment variables that lead to all servers."""
        return {name: value for server in self.servers for name, value in server.exports().items()}

    def start(self) -> None:
        """Start all servers, side by side; when one cannot start, none is left running.

        Raises:
            ConfigurationError: a wheel is missing, or the directory cannot be used.
            ConflictError: another devstack runs in the directory.
            BackendUnavailable: a server does not come up; the message ends with the last lines of its log.
        """
        with contextlib.ExitStack() as started:
            for server in self.servers:
                started.callback(server.stop)
            with ThreadPoolExecutor(len(self.servers)) as starters:
                for start in [starters.submit(server.start) for server in self.servers]:
                    start.result()
            self._started = started.pop_all()

    def stop(self) -> None:
        """Stop all servers, the last one first."""
        self._started.close()

    def wait(self) -> None:
        """Wait until a server ends by itself.

        Raises:
            BackendUnavailable: one did, and its name.
        """
        ended, _, _ = select.select(self.servers, [], [])
        raise BackendUnavailable(f"{' and '.join(server.name for server in ended)} ended; see {self.directory}/*/log")

    def __enter__(self) -> Self:
        """Start all servers."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop all servers."""
        self.stop()

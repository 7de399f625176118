"""Commands to a Redis server and their replies: the only place that knows the driver and its errors."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import exceptions
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry

from morphml_ray.cache.redis.connections import Connections
from morphml_ray.config.tls import is_tls_refusal
from morphml_ray.errors import BackendUnavailable, ConfigurationError

Command = tuple[bytes | str | int, ...]
DEFAULT_LONGEST_S = 30.0

Reply = Any
"""Bytes, a number, None, a list of replies, or a ``Refusal``."""

_FILE_OPTIONS = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
_VALUE_REFUSALS = ("value is not an integer", "increment or decrement would overflow", "WRONGTYPE")
# A server that says so serves nobody now: it is a replica since a fail-over, is starting, has lost its primary, or is
# in a script of somebody. What refuses writes only (OOM, NOREPLICAS, MISCONF) is the right server still.
_OUTAGES = frozenset({"READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "BUSY"})


class NotServingError(BackendUnavailable):
    """The server answers, and says that it cannot be worked with now."""


@dataclass(frozen=True)
class Refusal:
    """In place of the reply to one command: why there is none.

    Attributes:
        reason: in one line.
    """

    reason: str

    @property
    def is_about_value(self) -> bool:
        """Whether the stored value does not allow what was asked."""
        return self.reason.startswith(_VALUE_REFUSALS)

    @property
    def is_about_rights(self) -> bool:
        """Whether the user may not do this: no waiting helps."""
        return self._code == "NOPERM"

    @property
    def is_outage(self) -> bool:
        """Whether the server serves nobody now."""
        return self._code in _OUTAGES

    @property
    def _code(self) -> str:
        return self.reason.partition(" ")[0]


class RedisPool:
    """Pooled connections to one server. They open when they are needed, and can be used from several threads.

    Nothing is tried twice: whoever asks decides what a lost answer means.

    Args:
        url: the URL, references resolved.
        place: the URL as it may be shown.
        pool_size: connections at most; who comes when all are in use waits.
        timeout_s: how long the server may be silent, and how long a connection is waited for.
        longest_s: how long one exchange may take, however much moves.

    Raises:
        ConfigurationError: the URL names a file that is not here.
    """

    def __init__(
        self, url: str, place: str, *, pool_size: int, timeout_s: float, longest_s: float = DEFAULT_LONGEST_S
    ) -> None:
        self._place = place
        self._is_closed = False
        options = {
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
            # Left alone, the driver asks a hung server for a minute.
            "retry": Retry(NoBackoff(), 0),
            # The older protocol connects with one round trip, and any server speaks it.
            "protocol": 2,
            "driver_info": None,
            **_connection_options(url, place),
        }
        self._connections = Connections(options, pool_size=pool_size, timeout_s=timeout_s, longest_s=longest_s)

    def exchange(self, commands: Sequence[Command]) -> list[Reply]:
        """Send all commands, then read all replies.

        Raises:
            NotServingError: the server says that it cannot be worked with; the next exchange looks it up anew.
            BackendUnavailable: the server does not answer; any of the commands may have taken effect.
            ConfigurationError: no waiting helps.
        """
        if self._is_closed:
            raise BackendUnavailable(f"{self._place} is closed")
        with _translated(self._place), self._connections.one() as connection:
            connection.send_packed_command(connection.pack_commands(commands))
            replies = [_read(connection) for _ in commands]
            for reply in replies:
                if isinstance(reply, Refusal) and reply.is_outage:
                    raise NotServingError(f"{self._place} cannot be worked with now: {reply.reason}")
            return replies

    def close(self) -> None:
        """Let the connections go, those in use as soon as they are not."""
        self._is_closed = True
        self._connections.close()


def _connection_options(url: str, place: str) -> dict[str, Any]:
    options: dict[str, Any] = parse_url(url)  # type: ignore[no-untyped-call]  # the driver's own lack
    for name in _FILE_OPTIONS:
        if name in options and not Path(options[name]).exists():
            raise ConfigurationError(f"{place}: the file of {name} is not on this host")
    return options


def _read(connection: Any) -> Reply:
    try:
        return connection.read_response()
    except exceptions.ResponseError as error:
        return _refusal(error)


def _refusal(error: exceptions.ResponseError) -> Refusal:
    code = f"{error.status_code} " if error.status_code not in (None, "ERR") else ""
    return Refusal(f"{code}{error}")


@contextmanager
def _translated(place: str) -> Iterator[None]:
    """Let errors of the driver out as errors of ours."""
    try:
        yield
    except (exceptions.AuthenticationError, exceptions.AuthorizationError, exceptions.NoPermissionError) as error:
        raise ConfigurationError(f"{place} refuses the login: {error}. Correct user and password.") from error
    except exceptions.InvalidResponse as error:
        raise ConfigurationError(f"{place} does not speak the protocol of Redis: name another port or host") from error
    except exceptions.ResponseError as error:
        refusal = _refusal(error)
        if refusal.is_outage:
            raise NotServingError(f"{place} cannot be worked with now: {refusal.reason}") from error
        raise ConfigurationError(f"{place} refuses the connection: {error}. Correct the URL.") from error
    except exceptions.BusyLoadingError as error:
        raise NotServingError(f"{place} cannot be worked with now: LOADING {error}") from error
    except exceptions.RedisError as error:
        reason = " ".join(str(error).split())
        if is_tls_refusal(reason):
            raise ConfigurationError(
                f"{place} cannot be trusted or has no TLS: {reason}. Name its authority with ?ssl_ca_certs=/path, or "
                "write redis:// to go without TLS."
            ) from error
        raise BackendUnavailable(f"{place} does not answer: {reason}") from error
    except UnicodeError as error:
        raise ConfigurationError(f"{place} names a host that cannot be one") from error

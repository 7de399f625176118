"""Commands to a Redis server and their replies: the only place that knows the driver and its errors."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import exceptions
from redis.backoff import NoBackoff
from redis.connection import BlockingConnectionPool, parse_url
from redis.retry import Retry

from morphml_ray.config.tls import is_tls_refusal
from morphml_ray.errors import BackendUnavailable, ConfigurationError

Command = tuple[bytes | str | int, ...]
Reply = Any
"""Bytes, a number, None, a list of replies, or a ``Refusal``."""

# The time-out is one of silence: what is larger than this is sent in portions, each with a time-out of its own.
_PORTION_BYTES = 256 * 1024
_FILE_OPTIONS = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
_VALUE_REFUSALS = ("value is not an integer", "increment or decrement would overflow", "WRONGTYPE")


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


class RedisPool:
    """Pooled connections to one server. They open when they are needed, and can be used from several threads.

    Nothing is tried twice: whoever asks decides what a lost answer means.

    Args:
        url: the URL, references resolved.
        place: the URL as it may be shown.
        pool_size: connections at most; who comes when all are in use waits.
        timeout_s: how long the server may be silent, and how long a connection is waited for.

    Raises:
        ConfigurationError: the URL names a file that is not here.
    """

    def __init__(self, url: str, place: str, *, pool_size: int, timeout_s: float) -> None:
        self._place = place
        self._is_closed = False
        self._connections: Any = BlockingConnectionPool(  # type: ignore[no-untyped-call]  # the driver's own lack
            max_connections=pool_size,
            timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            # Left alone, the driver asks a hung server for a minute.
            retry=Retry(NoBackoff(), 0),
            # The older protocol connects with one round trip, and any server speaks it.
            protocol=2,
            driver_info=None,
            **_connection_options(url, place),
        )

    def exchange(self, commands: Sequence[Command]) -> list[Reply]:
        """Send all commands, then read all replies.

        Raises:
            BackendUnavailable: the server does not answer; any of the commands may have taken effect.
            ConfigurationError: no waiting helps.
        """
        if self._is_closed:
            raise BackendUnavailable(f"{self._place} is closed")
        with _translated(self._place):
            connection = self._connections.get_connection()
            try:
                connection.send_packed_command(list(_portions(connection.pack_commands(commands))))
                return [_read(connection) for _ in commands]
            except BaseException:
                # What is still to come would be taken for replies to others.
                connection.disconnect()
                raise
            finally:
                if self._is_closed:
                    connection.disconnect()
                self._connections.release(connection)

    def close(self) -> None:
        """Let the connections go, those in use as soon as they are not."""
        self._is_closed = True
        self._connections.disconnect(inuse_connections=False)


def _connection_options(url: str, place: str) -> dict[str, Any]:
    options: dict[str, Any] = parse_url(url)  # type: ignore[no-untyped-call]  # the driver's own lack
    for name in _FILE_OPTIONS:
        if name in options and not Path(options[name]).exists():
            raise ConfigurationError(f"{place}: the file of {name} is not on this host")
    return options


def _portions(chunks: Sequence[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    for chunk in chunks:
        if len(chunk) <= _PORTION_BYTES:
            yield chunk
        else:
            view = memoryview(chunk)
            yield from (view[start : start + _PORTION_BYTES] for start in range(0, len(view), _PORTION_BYTES))


def _read(connection: Any) -> Reply:
    try:
        return connection.read_response()
    except exceptions.ResponseError as error:
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
        raise ConfigurationError(f"{place} refuses the connection: {error}. Correct the URL.") from error
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

"""Redis and Valkey URLs: ``redis://user:password@host:port/number``, with TLS ``rediss://``."""

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from morphml_ray.config.authority import (
    Options,
    read_host,
    read_options,
    read_userinfo,
    refuse_masked,
    split_url,
)
from morphml_ray.config.references import Reference
from morphml_ray.errors import ConfigurationError

DEFAULT_HOST = "localhost"
DEFAULT_PORT = "6379"

# What redis-py takes for TLS; see "SSL Connection Examples" of its documentation. The words are what it takes for
# the options that are no paths.
_WORDS = {"ssl_cert_reqs": ("required", "optional", "none"), "ssl_check_hostname": ("yes", "no", "true", "false")}
TLS_OPTIONS = frozenset({"ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", *_WORDS})
SECRET_OPTIONS = frozenset({"ssl_password"})

_TAIL = re.compile(r"/?(?P<number>[0-9]{0,4})/?(?:\?(?P<query>.*))?", re.DOTALL)


@dataclass(frozen=True, repr=False)
class RedisUrl:
    """The parts of a Redis URL, percent-decoded; its repr shows none of them.

    Attributes:
        has_tls: whether the connection is encrypted.
        user: None for the server's default user.
        password: a literal, a reference, or None.
        host: a name or an address (IPv6 without brackets).
        port: digits.
        number: of the database, digits.
        options: what follows the question mark, in order; of TLS only.
    """

    has_tls: bool
    user: str | None
    password: str | Reference | None
    host: str
    port: str
    number: str
    options: Options
    scheme: ClassVar[str] = "redis"
    path: ClassVar[Path | None] = None

    @property
    def secrets(self) -> tuple[str | Reference, ...]:
        """The password and the values of secret options, in order."""
        named = tuple(value for key, value in self.options if key in SECRET_OPTIONS)
        return named if self.password is None else (self.password, *named)

    def render(self, show: Callable[[str | Reference], str]) -> str:
        """Give the URL's text, in which ``show`` writes each secret."""
        user = quote(self.user or "", safe="")
        if self.password is not None:
            user += f":{show(self.password)}"
        options = "&".join(
            f"{key}={show(value) if key in SECRET_OPTIONS else quote(str(value), '/')}" for key, value in self.options
        )
        return (
            f"{'rediss' if self.has_tls else 'redis'}://{user}{'@' if user else ''}{self._place}"
            f"{'?' if options else ''}{options}"
        )

    @property
    def identity(self) -> str:
        """What tells this database from others: user, host, port and number."""
        return f"redis://{quote(self.user or '', '')}@{self._place.lower()}"

    @property
    def _place(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}/{self.number}"


def parse_redis(rest: str, relative_to: Path | None) -> RedisUrl:  # noqa: ARG001 - one signature a scheme
    """Read what follows ``redis://``.

    Raises:
        ConfigurationError: a part that is wrong or ambiguous. The message shows no part of the URL, since any
            part may turn out to be a piece of a password.
    """
    return _parse(rest, has_tls=False)


def parse_rediss(rest: str, relative_to: Path | None) -> RedisUrl:  # noqa: ARG001 - one signature a scheme
    """Read what follows ``rediss://``, as ``parse_redis`` does."""
    return _parse(rest, has_tls=True)


def _parse(rest: str, *, has_tls: bool) -> RedisUrl:
    userinfo, hostport, tail = split_url(rest)
    match = _TAIL.fullmatch(tail)
    if match is None:
        raise ConfigurationError(
            "After the host of a Redis URL the number of a database may follow, as in redis://host:6379/0, and "
            "then ? and options"
        )
    user, password = read_userinfo(userinfo, "redis")
    host, port = read_host(hostport, "[::1]:6379; one server is named, not several")
    options = read_options(match["query"] or "", TLS_OPTIONS, SECRET_OPTIONS, _unknown_option)
    if options and not has_tls:
        raise ConfigurationError("The URL holds options of TLS: write rediss:// to connect with TLS")
    for name, value in options:
        if name in _WORDS and value not in _WORDS[name]:
            raise ConfigurationError(f"The option {name} of the URL takes {', '.join(_WORDS[name])}")
    number = str(int(match["number"] or 0))
    url = RedisUrl(has_tls, user, password, host or DEFAULT_HOST, port or DEFAULT_PORT, number, options)
    refuse_masked(url.secrets)
    return url


def _unknown_option(name: str) -> ConfigurationError:
    known = sorted(TLS_OPTIONS | SECRET_OPTIONS)
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"supported are {', '.join(known)}."
    return ConfigurationError(
        f"The URL holds an option that a Redis URL does not have here; {hint} User and password stand before the "
        "host, the number of the database after it: redis://user:password@host:6379/0"
    )

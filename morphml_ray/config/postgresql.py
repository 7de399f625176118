"""PostgreSQL URLs: ``postgresql://user:password@host:port/database?option=value``."""

import difflib
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote, unquote

from morphml_ray.config.references import Reference, is_plain_text, parse_reference
from morphml_ray.errors import ConfigurationError

DEFAULT_PORT = "5432"

# The connection options of libpq 18 (https://www.postgresql.org/docs/18/libpq-connect.html). An option that
# is not listed is refused: its value could be a secret under a misspelt name.
PUBLIC_OPTIONS = frozenset(
    """
    application_name channel_binding client_encoding connect_timeout dbname fallback_application_name
    gssdelegation gssencmode gsslib host hostaddr keepalives keepalives_count keepalives_idle
    keepalives_interval krbsrvname load_balance_hosts max_protocol_version min_protocol_version
    oauth_client_id oauth_issuer oauth_scope options passfile port replication require_auth requirepeer
    requiressl service servicefile sslcert sslcertmode sslcompression sslcrl sslcrldir sslkey sslkeylogfile
    sslmode sslnegotiation sslrootcert sslsni ssl_max_protocol_version ssl_min_protocol_version
    target_session_attrs tcp_user_timeout user
    """.split()  # noqa: SIM905 - words read better than 40 quoted lines
)
SECRET_OPTIONS = frozenset({"oauth_client_secret", "password", "scram_client_key", "scram_server_key", "sslpassword"})

_FILE_PASSWORD = re.compile(r"(?P<userinfo>[^:@/?#]*:file:/[^@?#]*)@(?P<rest>.*)", re.DOTALL)
_HOST_AND_PORT = re.compile(r"(?:\[(?P<ipv6>[^\[\]]*)\]|(?P<host>[\w.-]*))(?::(?P<port>[0-9]{0,5}))?")
_SEARCH_PATH = re.compile(r"search_path=(\S+)")
_MAX_PORT = 65535


@dataclass(frozen=True, repr=False)
class PostgresqlUrl:
    """The parts of a PostgreSQL URL, percent-decoded; its repr shows none of them.

    Attributes:
        user: None for the operating system's user.
        password: a literal, a reference, or None.
        host: a name, an address (IPv6 without brackets), or "" for the default or the one in ``options``.
        port: digits, or "" for the default.
        database: its name, or "" where ``options`` holds ``dbname``.
        options: what follows the question mark, in order.
    """

    user: str | None
    password: str | Reference | None
    host: str
    port: str
    database: str
    options: tuple[tuple[str, str | Reference], ...]
    scheme: ClassVar[str] = "postgresql"
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
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.port else ""
        options = "&".join(
            f"{key}={show(value) if key in SECRET_OPTIONS else quote(str(value), '!$*,:/')}"
            for key, value in self.options
        )
        return (
            f"postgresql+psycopg2://{user}{'@' if user else ''}{host}{port}/{self.database}"
            f"{'?' if options else ''}{options}"
        )

    @property
    def identity(self) -> str:
        """What tells this database from others: user, host, port, name and schema search path."""

        def stated(key: str, otherwise: str) -> str:
            return ",".join(str(value) for name, value in self.options if name == key) or otherwise

        user = quote(stated("user", self.user or ""), "")
        host = quote(stated("host", self.host or stated("hostaddr", "")).lower(), ":/,.")
        port = stated("port", self.port or DEFAULT_PORT)
        text = f"postgresql://{user}@{host}:{port}/{quote(stated('dbname', self.database), '')}"
        service = stated("service", "")
        search_path = ",".join(_SEARCH_PATH.findall(stated("options", "")))
        return (
            text + (f"?service={service}" if service else "") + (f"?search_path={search_path}" if search_path else "")
        )


def parse_postgresql(rest: str, relative_to: Path | None) -> PostgresqlUrl:  # noqa: ARG001 - one signature a scheme
    """Read what follows ``postgresql://``.

    Raises:
        ConfigurationError: a part that is wrong, missing or ambiguous. The message shows no part of the URL,
            since any part may turn out to be a piece of a password.
    """
    userinfo, hostport, tail = _split(rest)
    name, _, query = tail.removeprefix("/").partition("?") if tail.startswith("/") else ("", "", tail[1:])
    if re.search(r"[/&=;]", name):
        raise ConfigurationError(
            "The database name holds one of / & = ; : put a ? before options, or percent-encode the name"
        )
    user, password = _read_userinfo(userinfo)
    host, port = _read_host(hostport)
    database, options = _decode(name), _read_options(query)
    if database != quote(database, safe=""):  # only SQLAlchemy 2.1 decodes the path, both decode options
        database, options = "", (("dbname", database), *options)
    url = PostgresqlUrl(user, password, host, port, database, options)
    if not url.database and not any(key == "dbname" and value for key, value in url.options):
        raise ConfigurationError("The URL names no database: add its name, as in postgresql://user@host/name")
    if "***" in url.secrets:
        raise ConfigurationError("The URL's password is ***: this is a masked copy, state the password itself")
    return url


def _split(rest: str) -> tuple[str | None, str, str]:
    """Cut into user information, host with port, and the tail that begins with ``/`` or ``?``."""
    by_file = _FILE_PASSWORD.fullmatch(rest)
    authority = re.match(r"[^/?#]*", by_file["rest"] if by_file else rest)
    assert authority is not None  # noqa: S101 - the pattern also matches nothing
    tail = authority.string[authority.end() :]
    if "@" in tail or "#" in tail or (by_file and "@" in authority[0]):
        raise ConfigurationError(
            "The URL is ambiguous: an @ stands after a / or ?, or a # stands in it. Percent-encode these in the "
            "user name, the password and the options: @ as %40, / as %2F, # as %23, ? as %3F, : as %3A, % as %25"
        )
    if by_file:
        return by_file["userinfo"], authority[0], tail
    userinfo, at, hostport = authority[0].rpartition("@")
    return (userinfo if at else None), hostport, tail


def _read_userinfo(userinfo: str | None) -> tuple[str | None, str | Reference | None]:
    if userinfo is None:
        return None, None
    user, _, password = userinfo.partition(":")
    if user in ("env", "file") and password:
        raise ConfigurationError(
            "A reference stands in place of the password only: postgresql://user:env:NAME@host/database "
            "or postgresql://user:file:/path@host/database"
        )
    return _decode(user) or None, _read_secret(password) or None


def _read_host(hostport: str) -> tuple[str, str]:
    match = _HOST_AND_PORT.fullmatch(hostport)
    port = (match["port"] or "") if match else ""
    if match is None or (match["ipv6"] is not None and not _is_ipv6(match["ipv6"])):
        raise ConfigurationError(
            "The host or the port of the URL is wrong. An IPv6 address stands in brackets: [::1]:5432; a socket "
            "directory is an option: ?host=/var/run/postgresql; several hosts are options: "
            "?host=a:5432&host=b:5432; special characters in a password are percent-encoded"
        )
    if port and not 0 < int(port) <= _MAX_PORT:
        raise ConfigurationError(f"The port of the URL is not between 1 and {_MAX_PORT}")
    return match["ipv6"] or match["host"] or "", port


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _read_options(query: str) -> tuple[tuple[str, str | Reference], ...]:
    options = []
    for pair in filter(None, query.split("&")):
        key, _, value = pair.partition("=")
        name = _decode(key)
        if name not in PUBLIC_OPTIONS | SECRET_OPTIONS:
            raise _unknown_option(name)
        plain = value.replace("+", " ")  # as SQLAlchemy reads it
        options.append((name, _read_secret(plain) if name in SECRET_OPTIONS else _decode(plain)))
    return tuple(options)


def _unknown_option(name: str) -> ConfigurationError:
    near = difflib.get_close_matches(name, sorted(PUBLIC_OPTIONS | SECRET_OPTIONS), n=3)
    if not near:
        return ConfigurationError(
            "The URL holds an option that PostgreSQL's libpq does not know: see "
            "https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS"
        )
    return ConfigurationError(
        f"The URL holds an option that PostgreSQL does not know; did you mean {' or '.join(near)}?"
    )


def _read_secret(text: str) -> str | Reference:
    return parse_reference(text) or _decode(text)


def _decode(text: str) -> str:
    decoded = unquote(text, errors="surrogateescape")
    if not is_plain_text(decoded):
        raise ConfigurationError("The URL holds percent-encoded bytes that are not printable UTF-8 text")
    return decoded

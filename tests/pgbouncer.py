"""A real PgBouncer in transaction mode: each transaction gets another session, as on large clusters.

The one server of the tests that no wheel holds: see CONTRIBUTING.md for how to get it.
"""

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
import pytest
from servers import reachable_directory
from waiting import wait_until

from morphml_ray.devstack import PostgresServer

SETTINGS = """
[databases]
* = host=127.0.0.1 port={server.port} user={server.username} password={server.password}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
server_round_robin = 1
logfile = {directory}/pgbouncer.log
"""


@pytest.fixture(scope="session")
def pgbouncer(postgres_server: PostgresServer) -> Iterator[str]:
    """Where it listens, as host and port; it leads to the server that all tests share."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    assert program, "PgBouncer is not installed: on Debian and Ubuntu, apt-get install pgbouncer (see CONTRIBUTING.md)"
    account = ["-u", "nobody"] if os.geteuid() == 0 else []
    with reachable_directory() as directory, socket.socket() as held:
        directory.chmod(0o777)
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        held.close()
        settings = directory / "pgbouncer.ini"
        settings.write_text(SETTINGS.format(server=urlsplit(postgres_server.url), port=port, directory=directory))
        with subprocess.Popen([program, "-q", *account, str(settings)], cwd=directory) as process:
            try:
                wait_until(lambda: answers(port, process, directory / "pgbouncer.log"), 30)
                yield f"127.0.0.1:{port}"
            finally:
                process.terminate()


def answers(port: int, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, f"PgBouncer did not start:\n{log.read_text() if log.exists() else ''}"
    with contextlib.suppress(psycopg2.OperationalError):
        psycopg2.connect(host="127.0.0.1", port=port, dbname="postgres", user="any").close()
        return True
    return False


def through(pgbouncer: str, url: str) -> str:
    """Give the URL that leads to the same database by way of PgBouncer."""
    return f"postgresql://any@{pgbouncer}{urlsplit(url).path}"

"""Servers that answer as no well server does: one that says what a test tells it, and one that loses answers."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

LOOPBACK = "127.0.0.1"
EMPTY_LISTING = b"<ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>0</KeyCount></ListBucketResult>"


class Asked(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Answer(NamedTuple):
    """What is said; an empty header is left out, and Content-Length may be a lie."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = {}  # noqa: RUF012 - nobody changes it


def is_direct(asked: Asked) -> bool:
    """Tell whether a request went past boto3, which numbers its own."""
    return "amz-sdk-invocation-id" not in asked.headers


def refusal(status: int, code: str = "", message: str = "as the test wants it") -> Answer:
    """Answer with an error in the words of S3."""
    return Answer(status, f"<Error><Code>{code or status}</Code><Message>{message}</Message></Error>".encode())


class FakeS3:
    """An S3 server that says what it is told; what nobody told it is an empty listing, or an empty answer."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.say: Callable[[Asked], Answer | None] = lambda _: None
        self._closed = threading.Event()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                fake.answer(self, Asked(self.command, self.path, headers, body))

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve  # noqa: N815 - the names of http.server

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its signature
                pass

        self._server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def answer(self, handler: BaseHTTPRequestHandler, asked: Asked) -> None:
        if not self._closed.is_set():
            self.asked.append(asked)
            answer = self.say(asked)
        if self._closed.is_set():  # on a connection that is still there
            handler.close_connection = True
            return
        if answer is None:
            answer = Answer(200, EMPTY_LISTING if "list-type=2" in asked.path else b"")
        handler.send_response(answer.status)
        for name, value in {"ETag": '"1"', "Content-Length": str(len(answer.body)), **answer.headers}.items():
            if value:
                handler.send_header(name, value)
        # A body that is not as long as announced can only end with the connection.
        handler.close_connection |= "Content-Length" in answer.headers
        handler.end_headers()
        if asked.method != "HEAD":
            handler.wfile.write(answer.body)

    @property
    def endpoint_url(self) -> str:
        return f"http://{LOOPBACK}:{self._server.server_port}"

    def url(self, options: str = "") -> str:
        """Give the URL of a bucket there, with credentials."""
        return (
            f"s3://bucket/prefix?endpoint_url={self.endpoint_url}&aws_access_key_id=key"
            f"&aws_secret_access_key=S3NTINEL{options}"
        )

    def stall(self) -> None:
        """Say nothing until the end."""
        self._closed.wait()

    def close(self) -> None:
        if self._closed.is_set():
            return
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@dataclass
class Fault:
    """What happens to the first answer to a request that holds ``request``.

    Attributes:
        request: bytes of the request's head, in letters of any size.
        after_bytes: how much of the answer passes; then the connection ends.
    """

    request: bytes
    after_bytes: int = 0
    happened: threading.Event = field(default_factory=threading.Event)


class LossyProxy:
    """Passes bytes on to a server, and loses answers as it is told; the server has done its work by then."""

    def __init__(self, url: str) -> None:
        server = urlsplit(url.partition("endpoint_url=")[2].partition("&")[0])
        self._upstream = (str(server.hostname), int(server.port or 0))
        self.faults: list[Fault] = []
        self._listener = socket.create_server((LOOPBACK, 0))
        self.url = url.replace(f":{server.port}", f":{self._listener.getsockname()[1]}")
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def lose(self, request: bytes, after_bytes: int = 0) -> Fault:
        self.faults.append(Fault(request, after_bytes))
        return self.faults[-1]

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for one in self._open:
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._upstream)
                self._open += [client, server]
                hit: list[Fault] = []
                for work in (self._pass_requests, self._pass_answers):
                    self._threads.append(threading.Thread(target=work, args=(client, server, hit)))
                    self._threads[-1].start()

    def _pass_requests(self, client: socket.socket, server: socket.socket, hit: list[Fault]) -> None:
        with _ended_together(client, server):
            while data := client.recv(65536):
                due = (
                    fault
                    for fault in self.faults
                    if fault.request.lower() in data.lower() and not fault.happened.is_set()
                )
                for fault in islice(due, 1):
                    fault.happened.set()
                    hit.append(fault)
                server.sendall(data)

    def _pass_answers(self, client: socket.socket, server: socket.socket, hit: list[Fault]) -> None:
        passed = 0
        with _ended_together(client, server):
            while data := server.recv(65536):
                if hit and not data.startswith(b"HTTP/1.1 100"):
                    client.sendall(data[: max(0, hit[0].after_bytes - passed)])
                    passed += len(data)
                    if passed >= hit[0].after_bytes:
                        return
                else:
                    client.sendall(data)


@contextlib.contextmanager
def _ended_together(*ends: socket.socket) -> Iterator[None]:
    with contextlib.suppress(OSError):
        yield
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def fake() -> Iterator[FakeS3]:
    """A server of S3 that says what the test tells it to."""
    server = FakeS3()
    yield server
    server.close()


@pytest.fixture(params=["obstore", "boto3"])
def driver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let either move the objects: where the environment holds what obstore alone would obey, boto3 does."""
    if request.param == "boto3":
        monkeypatch.setenv("AWS_UNSIGNED_PAYLOAD", "true")

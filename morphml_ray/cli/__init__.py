"""The command ``morphml-ray``."""

import argparse
import contextlib
import json
import logging
import os
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from importlib.metadata import version

import ray

from morphml_ray.config import DEFAULT_NAME, DEFAULT_NAMESPACE
from morphml_ray.errors import MorphMLRayError
from morphml_ray.storage import find_storage

CONNECT_TIMEOUT_S = 8.0
_PORT_TIMEOUT_S = 3.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 where it worked, 1 where it did not."""
    options = _parser().parse_args(arguments)
    try:
        print(json.dumps(_status(options), indent=2, default=str))  # noqa: T201 - the command's output
    except (MorphMLRayError, ConnectionError) as error:
        _complain(error)
        return 1
    return 0


def _status(options: argparse.Namespace) -> object:
    with _joined(options.address) as address:
        shown = {"address": address, "namespace": options.namespace, "name": options.name}
        try:
            return {"storage": shown, **find_storage(options.namespace, options.name).status()}
        except MorphMLRayError as error:
            raise type(error)(f"cluster {address}: {error}") from error


@contextlib.contextmanager
def _joined(address: str) -> Iterator[str]:
    """Join a cluster; gives its address.

    Raises:
        ConnectionError: nothing answers there.
    """
    _knock(address)
    # Ray waits for minutes where something else listens, or the cluster hangs, and takes no signal meanwhile.
    timer = threading.Timer(CONNECT_TIMEOUT_S, _give_up, (address,))
    timer.daemon = True
    timer.start()
    try:
        ray.init(address, logging_level=logging.ERROR, log_to_driver=False)
    finally:
        timer.cancel()
    try:
        yield ray.get_runtime_context().gcs_address
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    host, colon, port = address.rpartition(":")
    if "://" in address:
        raise ConnectionError(f"{address} is no address of a cluster: give --address HOST:PORT of its head (6379)")
    if not colon or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PORT_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        raise ConnectionError(f"no Ray cluster answers at {address}: {error}") from error


def _give_up(address: str) -> None:
    _complain(f"no Ray cluster answers at {address} within {CONNECT_TIMEOUT_S:.0f} s")
    os._exit(1)


def _complain(what: object) -> None:
    print(f"morphml-ray: {what}", file=sys.stderr, flush=True)  # noqa: T201 - the command's output


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="morphml-ray", description="Look at the storage of a running Ray cluster.")
    parser.add_argument("--version", action="version", version=f"morphml-ray {version('morphml-ray')}")
    commands = parser.add_subparsers(required=True, metavar="command")
    status = commands.add_parser("status", help="print which storage it is and the status of its actors, as JSON")
    status.add_argument("--address", default="auto", help="of the Ray cluster (default: the one on this machine)")
    status.add_argument("--namespace", default=DEFAULT_NAMESPACE, help="of the actors (default: %(default)s)")
    status.add_argument("--name", default=DEFAULT_NAME, help="of the storage (default: %(default)s)")
    return parser

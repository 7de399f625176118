"""The command ``morphml-ray``."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from importlib.metadata import version

import ray

from morphml_ray.config import DEFAULT_NAME, DEFAULT_NAMESPACE
from morphml_ray.errors import MorphMLRayError
from morphml_ray.storage import find_storage


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 where it worked, 1 where it did not."""
    options = _parser().parse_args(arguments)
    try:
        print(json.dumps(_status(options), indent=2, default=str))  # noqa: T201 - the command's output
    except (MorphMLRayError, ConnectionError) as error:
        print(f"morphml-ray: {error}", file=sys.stderr)  # noqa: T201 - the command's output
        return 1
    return 0


def _status(options: argparse.Namespace) -> object:
    ray.init(options.address, logging_level=logging.ERROR, log_to_driver=False)
    try:
        return find_storage(options.namespace, options.name).status()
    finally:
        ray.shutdown()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="morphml-ray", description="Look at the storage of a running Ray cluster.")
    parser.add_argument("--version", action="version", version=f"morphml-ray {version('morphml-ray')}")
    commands = parser.add_subparsers(required=True, metavar="command")
    status = commands.add_parser("status", help="print how the actors do, as JSON")
    status.add_argument("--address", default="auto", help="of the Ray cluster (default: the one on this machine)")
    status.add_argument("--namespace", default=DEFAULT_NAMESPACE, help="of the actors (default: %(default)s)")
    status.add_argument("--name", default=DEFAULT_NAME, help="of the storage (default: %(default)s)")
    return parser

"""Artifacts on a cluster of two nodes."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from morphml_ray.devstack import SeaweedServer

PROGRAM = Path(__file__).resolve().parent.parent / "two_nodes.py"


def test_each_node_has_an_actor_that_goes_with_it(s3_server: SeaweedServer, artifacts_url: str, tmp_path: Path) -> None:
    # Credentials in the environment of both nodes, so that no node is tied to a file with a secret.
    prefix = artifacts_url.removeprefix("s3://morphml/").partition("?")[0]
    url = s3_server.bucket_url("morphml", prefix)
    with tempfile.TemporaryDirectory(prefix="mr", dir="/tmp") as folder:
        environment = {**os.environ, **s3_server.exports(), "RAY_TMPDIR": folder, "PYTHONWARNINGS": "ignore"}
        environment = {name: value for name, value in environment.items() if not name.startswith("MORPHML_")}
        program = [sys.executable, str(PROGRAM), url, str(tmp_path)]
        done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr[-3000:]

"""Files of the caller: read and written by the actor where it sees them, sent in chunks where it does not."""

import os
import secrets
import tempfile
import uuid
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import ray

from morphml_ray.artifacts.actor.actor import ArtifactActor
from morphml_ray.artifacts.actor.file_proof import FileProof
from morphml_ray.artifacts.checks import WriteRequest
from morphml_ray.artifacts.contract import ArtifactBackend
from morphml_ray.artifacts.file_chunks import download_in_chunks, upload_in_chunks
from morphml_ray.artifacts.node_channel import ArtifactChannel
from morphml_ray.artifacts.progress import Meter, Progress
from morphml_ray.errors import MorphMLRayError, ValidationError
from morphml_ray.rpc.call import Call, call
from morphml_ray.rpc.channel import Channel, Steps

POLL_S = 0.5


@dataclass(frozen=True)
class FileUpload(Steps[str]):
    """A file that becomes an object; gives the key.

    Attributes:
        path: absolute.
        write: what it becomes.
        progress: is told how far it is, or None.
    """

    path: Path
    write: WriteRequest
    progress: Progress | None

    def run(self, channel: Channel) -> str:
        """See ``Steps.run``."""
        proof = FileProof.of(self.path)
        with closing(Meter(self.progress, f"upload {self.path.name}", proof.size_bytes)) as meter:
            if _sees_file(channel, proof):
                key = _watch(channel, *self._in_place(), meter)
                meter.move_to(proof.size_bytes)
                return key
            return upload_in_chunks(channel, self.path, self.write, meter)

    def start(self, channel: Channel) -> "ray.ObjectRef[str]":
        """See ``Steps.start``; where the actor does not see the file, this returns when it is uploaded."""
        _refuse_progress(self.progress)
        if _sees_file(channel, FileProof.of(self.path)):
            transfer, _ = self._in_place()
            return channel.submit(transfer)
        return ray.put(self.run(channel))

    def _in_place(self) -> tuple[Call[str], str]:
        name = uuid.uuid4().hex
        return call(ArtifactActor.put_file, self.write, str(self.path), name), name


@dataclass(frozen=True)
class FileDownload(Steps[str]):
    """An object that becomes a file; gives its path.

    Attributes:
        key: of the object.
        path: absolute.
        progress: is told how far it is, or None.
    """

    key: str
    path: Path
    progress: Progress | None

    def run(self, channel: Channel) -> str:
        """See ``Steps.run``."""
        with closing(Meter(self.progress, f"download {self.path.name}", None)) as meter:
            if _sees_folder(channel, self.path.parent):
                path = _watch(channel, *self._in_place(), meter, self.key)
                meter.move_to(self.path.stat().st_size)
                return path
            download_in_chunks(channel, self.key, self.path, meter)
            return str(self.path)

    def start(self, channel: Channel) -> "ray.ObjectRef[str]":
        """See ``Steps.start``; where the actor does not see the directory, this returns when the file is there."""
        _refuse_progress(self.progress)
        if _sees_folder(channel, self.path.parent):
            transfer, _ = self._in_place()
            return channel.submit(transfer)
        return ray.put(self.run(channel))

    def _in_place(self) -> tuple[Call[str], str]:
        name = uuid.uuid4().hex
        return call(ArtifactActor.get_file, self.key, str(self.path), name), name


def absolute(path: str | os.PathLike[str]) -> Path:
    """Give the path as the caller means it, whatever the directory of the actor.

    Raises:
        ValidationError: it is no path.
    """
    try:
        return Path(path).absolute()
    except TypeError as error:
        raise ValidationError(f"a path must be a text or a path, not {type(path).__name__}") from error


def _watch(channel: Channel, transfer: Call[str], name: str, meter: Meter, key: str | None = None) -> str:
    """Wait for a transfer that the actor makes in place, and show how far it is."""
    channel = cast("ArtifactChannel", channel)  # an ArtifactStore has no other
    ref = channel.submit(transfer)
    while (meter.needs_total or not meter.is_idle) and not _is_done(ref):
        if key is not None and meter.needs_total:  # only now: most downloads are over before anybody asks
            meter.total_bytes = _size_bytes(channel, key)
        moved_bytes, stalled_s = channel.progress(name)
        meter.move_to(moved_bytes)
        if stalled_s > channel.stall_limit_s:
            break
    return channel.result(ref)


def _size_bytes(channel: Channel, key: str) -> int:
    """Ask how large an object is; 0 where nobody tells, for the transfer may succeed all the same."""
    try:
        found = channel.wait(call(ArtifactActor.look_up, ArtifactBackend.head, key))
    except MorphMLRayError:
        return 0
    return 0 if found is None else int(found.size_bytes)


def _is_done(ref: "ray.ObjectRef[Any]") -> bool:
    done, _ = ray.wait([ref], timeout=POLL_S, fetch_local=False)
    return bool(done)


def _sees_file(channel: Channel, proof: FileProof) -> bool:
    return channel.wait(call(ArtifactActor.sees, proof))


def _sees_folder(channel: Channel, folder: Path) -> bool:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".morphml-") as probe:
        probe.write(bytes(1 + secrets.randbelow(1000)))
        probe.flush()
        return _sees_file(channel, FileProof.of(Path(probe.name), is_written=True))


def _refuse_progress(progress: Progress | None) -> None:
    if progress is not None:
        raise ValidationError("progress= goes with the blocking call: .remote() has nobody who waits")

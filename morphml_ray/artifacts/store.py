"""The facade of the artifacts."""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from typing_extensions import Buffer, Self

from morphml_ray.artifacts.actor.actor import ArtifactActor, ArtifactSettings
from morphml_ray.artifacts.batch_download import BatchDownload
from morphml_ray.artifacts.checks import (
    PresignMethod,
    check_call_bytes,
    check_folder,
    check_key,
    check_limit,
    check_prefix,
    check_presign,
    check_range,
    check_write,
    view_bytes,
)
from morphml_ray.artifacts.contract import ArtifactBackend
from morphml_ray.artifacts.file_transfers import FileDownload, FileUpload, absolute
from morphml_ray.artifacts.node_actors import ArtifactActors, open_artifacts
from morphml_ray.artifacts.node_channel import ArtifactChannel
from morphml_ray.artifacts.progress import Progress
from morphml_ray.artifacts.wire import Payload
from morphml_ray.artifacts.write_id import new_write_id
from morphml_ray.config import DEFAULT_NAMESPACE, BackendUrl, StorageConfig, fingerprint, stash_secret
from morphml_ray.errors import ConfigurationError, ValidationError
from morphml_ray.model.arguments import text
from morphml_ray.rpc.call import Call, call
from morphml_ray.rpc.channel import Steps
from morphml_ray.rpc.cluster import require_ray, this_node
from morphml_ray.rpc.deploy import node_of
from morphml_ray.rpc.remote_method import remote_method

_REFERENCES = ("env:", "file:")


class ArtifactStore:
    """Large objects under keys, through the artifact actor of the node.

    A write replaces the whole object; when its answer is there, it is durable. Every method blocks until its answer
    is there, and has ``.remote(...)``, which returns a Ray ``ObjectRef`` of the same value at once. The object
    pickles: pass it to tasks; on each node it uses the actor of that node, which is started when it is first used.

    Credentials that are not stated come from boto3's own chain, where the actors run: environment, profile, role.

    Args:
        bucket: of S3; made where it is missing.
        endpoint_url: of the server, where it is not AWS.
        aws_access_key: the access key's id, or a reference to it: ``env:NAME`` or ``file:/path``.
        aws_secret_key: the secret key, or a reference to it.
        aws_session_token: what temporary keys need beside them, or a reference to it.
        region: of the bucket.
        prefix: what all keys in the bucket begin with; the keys given and taken here are without it.
        create_bucket: False refuses a bucket that is missing.

    Raises:
        ConfigurationError: Ray is not initialized, an argument is wrong, or the server refuses the credentials.
        BackendUnavailable: the server did not answer within the deadline.
    """

    actors: ArtifactActors

    def __init__(
        self,
        bucket: str,
        endpoint_url: str | None = None,
        aws_access_key: str | None = None,
        aws_secret_key: str | None = None,
        region: str | None = None,
        *,
        prefix: str = "",
        aws_session_token: str | None = None,
        create_bucket: bool = True,
    ) -> None:
        options = {
            "endpoint_url": endpoint_url and quote(endpoint_url, safe=":/"),
            "aws_access_key_id": aws_access_key and _secret(aws_access_key),
            "aws_secret_access_key": aws_secret_key and _secret(aws_secret_key),
            "aws_session_token": aws_session_token and _secret(aws_session_token),
            "region": region and quote(region),
            "create_bucket": None if create_bucket else "0",
        }
        stated = "&".join(f"{name}={value}" for name, value in options.items() if value is not None)
        folder = f"/{quote(prefix.strip('/'))}" if prefix.strip("/") else ""
        self.actors = _connect(f"s3://{text(bucket, 'bucket')}{folder}{'?' if stated else ''}{stated}")

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Open the store of a URL: ``s3://bucket/prefix?endpoint_url=...``, ``file:///path``, or a reference to one.

        Raises:
            ConfigurationError: Ray is not initialized, the URL is wrong, or the server refuses the credentials.
            BackendUnavailable: the server did not answer within the deadline.
        """
        return cls.over(_connect(url))

    @classmethod
    def over(cls, actors: ArtifactActors) -> Self:
        """Make a facade over actors that are known already."""
        store = cls.__new__(cls)
        store.actors = actors
        return store

    @property
    def channel(self) -> ArtifactChannel:
        """The way to the actor of the node that this process runs on."""
        return self.actors.here()

    def __repr__(self) -> str:
        return f"ArtifactStore({self.actors.first.place!r})"

    def close(self) -> None:
        """Do nothing: the actors serve others too; ``shutdown()`` ends them."""

    def shutdown(self) -> None:
        """End the actors of all nodes, for everybody, when they have ended what they took; the objects stay."""
        self.actors.shutdown()

    @remote_method
    def upload_file(
        self,
        local_path: str | os.PathLike[str],
        s3_key: str,
        metadata: Mapping[str, str] | None = None,
        *,
        content_type: str | None = None,
        if_absent: bool = False,
        progress: Progress | None = None,
    ) -> Steps[str]:
        """Store a file, streamed in bounded memory; gives the key.

        The actor reads the file in place; where it does not see it, since the caller has a file system of its own,
        the file is sent in chunks, and then ``.remote`` returns no earlier than it is sent.

        Args:
            local_path: of the file, on this machine.
            s3_key: what to call the object.
            metadata: texts under names, any characters.
            content_type: a media type.
            if_absent: store only where there is no such object.
            progress: is told how many bytes have passed so far, in this process; without it a file over 64 MB gets a
                progress bar. What it raises is raised here, and need not end the transfer. Not with ``.remote``.

        Raises:
            AlreadyExistsError: ``if_absent``, and there is such an object.
            ValidationError: the key or the metadata cannot be stored.
            OSError: the file cannot be read.
            ConflictError: it changed meanwhile.
        """
        write = check_write(s3_key, metadata or {}, content_type, if_absent=if_absent, write_id=None)
        return FileUpload(absolute(local_path), write, progress)

    @remote_method
    def download_file(
        self, s3_key: str, local_path: str | os.PathLike[str], *, progress: Progress | None = None
    ) -> Steps[str]:
        """Write an object to a file, streamed in bounded memory; gives its absolute path.

        The file appears when it is complete and verified; until then one that was there stays. It is a copy: it is not
        forced to the disk.

        Args:
            s3_key: of the object.
            local_path: of the file, on this machine; missing directories are made.
            progress: see ``upload_file``.

        Raises:
            NotFoundError: there is no such object.
            CorruptDataError: its checksum differs.
            OSError: the file cannot be written.
        """
        return FileDownload(check_key(s3_key), absolute(local_path), progress)

    @remote_method
    def upload_bytes(
        self,
        data: Buffer,
        s3_key: str,
        metadata: Mapping[str, str] | None = None,
        *,
        content_type: str | None = None,
        if_absent: bool = False,
    ) -> Call[str]:
        """Store bytes, or anything with a buffer, such as an array; gives the key.

        See ``upload_file`` for the other arguments and the errors. More than 1 GB is a ``ValidationError``: it goes as
        a file.
        """
        write = check_write(s3_key, metadata or {}, content_type, if_absent=if_absent, write_id=None)
        view = view_bytes(data)
        check_call_bytes(view.nbytes, s3_key, "take upload_file(), or fs.open() of morphml://, which stream")
        return call(ArtifactActor.put, write, Payload(view))

    @remote_method
    def download_bytes(self, s3_key: str, offset: int = 0, length: int | None = None) -> Call[bytes]:
        """Read an object, or a range of it, which ends where the object ends.

        Raises:
            ValidationError: it is more than 1 GB, which is read as a file.
            NotFoundError: there is no such object.
            CorruptDataError: the whole was read, and its checksum differs.
        """
        return call(ArtifactActor.get, check_key(s3_key), *check_range(offset, length))

    @remote_method
    def upload_multiple(self, objects: Mapping[str, Buffer]) -> Call[list[str]]:
        """Store many small objects in one call, in a fraction of the time that a call for each takes; gives the keys.

        When one of them fails its error is raised, and the others may be stored. Repeating the call is harmless.

        Args:
            objects: bytes, or anything with a buffer, by their keys; all of them are held in memory at once.

        Raises:
            ValidationError: a key or a value cannot be stored, or all have more than 1 GB together; nothing is.
        """
        if not isinstance(objects, Mapping):
            raise ValidationError(f"objects must come under their keys, in a mapping, not in {type(objects).__name__}")
        writes = [check_write(key, {}, None, if_absent=False, write_id=None) for key in objects]
        views = [view_bytes(data) for data in objects.values()]
        check_call_bytes(sum(view.nbytes for view in views), "objects", "send them in several calls")
        return call(ArtifactActor.put_multiple, writes, [Payload(view) for view in views])

    @remote_method
    def download_multiple(self, s3_keys: Iterable[str]) -> Steps[dict[str, bytes]]:
        """Read many objects, small ones in few calls; missing keys are left out; all are held in your memory at once.

        ``.remote`` reads them in one call, which the actor holds in its memory: 256 MB at most.

        Raises:
            CorruptDataError: the checksum of one differs.
            ValidationError: one has more than 1 GB; with ``.remote``, all together more than 256 MB.
        """
        if isinstance(s3_keys, str):
            raise ValidationError("s3_keys must be several keys, not one text")
        return BatchDownload([check_key(key) for key in s3_keys])

    @remote_method
    def exists(self, s3_key: str) -> Call[bool]:
        """Tell whether there is such an object; what the server does not answer is an error, and no False."""
        return call(ArtifactActor.look_up, ArtifactBackend.exists, check_key(s3_key))

    @remote_method
    def delete(self, s3_key: str) -> Call[bool]:
        """Delete an object; False where there was none."""
        return call(ArtifactActor.delete, check_key(s3_key), new_write_id())

    @remote_method
    def list_objects(self, prefix: str = "", max_keys: int | None = None) -> Call[list[dict[str, Any]]]:
        """List the objects whose keys begin with ``prefix``, all pages: dicts of key, size, last_modified (UTC)."""
        return call(ArtifactActor.list_objects, check_prefix(prefix), check_limit(max_keys))

    @remote_method
    def list_keys(self, prefix: str = "") -> Call[list[str]]:
        """List the keys that begin with ``prefix``, all pages, ascending by their bytes."""
        return call(ArtifactActor.list_keys, check_prefix(prefix))

    @remote_method
    def get_metadata(self, s3_key: str) -> Call[dict[str, Any] | None]:
        """Describe an object: size, last_modified (UTC), content_type, metadata; None where there is none."""
        return call(ArtifactActor.metadata, check_key(s3_key))

    @remote_method
    def get_presigned_url(self, s3_key: str, expiration: int = 3600, method: PresignMethod = "get_object") -> Call[str]:
        """Give a URL with which anybody may read, or write, the object for ``expiration`` seconds.

        Raises:
            ValidationError: ``method`` is neither "get_object" nor "put_object", or the time is too long.
            ConfigurationError: the store is a directory, which has no such URLs.
        """
        expires_s, kind = check_presign(expiration, method)
        return call(ArtifactActor.look_up, ArtifactBackend.presign, check_key(s3_key), expires_s, kind)

    @remote_method
    def copy(self, source_key: str, dest_key: str) -> Call[str]:
        """Copy an object with its metadata, inside the store; gives the new key.

        Raises:
            NotFoundError: there is no such object.
        """
        write = check_write(dest_key, {}, None, if_absent=False, write_id=None)
        return call(ArtifactActor.copy, check_key(source_key), write)

    @remote_method
    def delete_prefix(self, prefix: str) -> Call[int]:
        """Delete the object ``prefix`` and all below ``prefix/``; gives how many there were.

        Raises:
            ValidationError: the prefix is "" or "/", which would be everything.
        """
        check_folder(prefix)
        return call(ArtifactActor.delete_prefix, str.__str__(prefix), new_write_id())

    @remote_method
    def get_total_size(self, prefix: str = "") -> Call[int]:
        """Sum up the bytes of all objects whose keys begin with ``prefix``."""
        return call(ArtifactActor.walk, ArtifactBackend.total_size, check_prefix(prefix))


def artifact_settings(config: StorageConfig) -> ArtifactSettings:
    """Take what the artifact actors need from the settings, with secrets stashed away."""
    url = stash_secret(config.artifacts_url)
    return ArtifactSettings(url, config.deadline_s, _home_of(url))


def _connect(url: str) -> ArtifactActors:
    require_ray()
    settings = artifact_settings(StorageConfig(artifacts=url))
    name = fingerprint(settings.url)
    return open_artifacts(settings, name, DEFAULT_NAMESPACE)


def _home_of(url: BackendUrl) -> str | None:
    """Tell which node alone has the directory, or the file with the secret; None where any node will do."""
    home = node_of(url)
    with suppress(ConfigurationError):  # a variable that only the actors have
        if home is None and url.resolve("artifacts").startswith("file:"):
            home = this_node()
    return home


def _secret(stated: str) -> str:
    return str.__str__(stated) if stated.startswith(_REFERENCES) else quote(stated, safe="")

"""The artifacts as a file system of fsspec: ``morphml://path/to/key`` in pandas, pyarrow, torch and others."""

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsspec.callbacks import DEFAULT_CALLBACK  # type: ignore[import-untyped]  # fsspec carries no type information
from fsspec.core import get_compression  # type: ignore[import-untyped]  # the same
from fsspec.utils import isfilelike  # type: ignore[import-untyped]  # the same
from typing_extensions import Buffer

from morphml_ray.artifacts.actor.actor import ArtifactActor
from morphml_ray.artifacts.checks import check_key
from morphml_ray.artifacts.progress import Progress
from morphml_ray.errors import ConflictError, MorphMLRayError, ValidationError
from morphml_ray.integrations.fsspec.many_files import ManyFiles
from morphml_ray.integrations.fsspec.open_file import ArtifactFile, PackedFile
from morphml_ray.integrations.fsspec.tree import is_directory, not_found, replaced
from morphml_ray.rpc.call import call

if TYPE_CHECKING:
    import ray


class MorphmlFileSystem(ManyFiles):
    """The artifacts of a running storage, as files.

    It finds the storage, which ``connect(name=..., namespace=...)`` started anywhere in the cluster, when it is first
    used, in any process: only the actors hold credentials. It pickles by name and namespace. Nothing is cached: other
    processes write too.

    Files are objects: they appear in whole when they are closed, also over ones that were there, and are never
    appended to. Directories are what the slashes in keys make of them: ``mkdir`` does nothing, and one without files
    does not exist.

    Errors are Python's own where it has some: FileNotFoundError, FileExistsError, IsADirectoryError, and an OSError
    for damage (``EIO``) and for an open file that was replaced or deleted (``ESTALE``); ``BackendUnavailable`` is a
    ConnectionError, and ``ValidationError`` a ValueError.

    Args:
        name: of the storage.
        namespace: of Ray.
        storage_options: what fsspec itself takes.
    """

    protocol = "morphml"

    # Bytes

    def open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        cache_options: dict[str, Any] | None = None,
        compression: str | None = None,
        **options: Any,
    ) -> Any:
        """Open a file; see fsspec for the arguments, and ``ArtifactFile`` for what closing does."""
        # A text file comes by here again, for the bytes below it.
        kind = get_compression(path, compression) if mode in ("wb", "xb") else None
        if kind is not None:
            return PackedFile(super().open(path, mode, block_size, cache_options, **options), kind)
        return super().open(path, mode, block_size, cache_options, compression, **options)

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **options: Any) -> ArtifactFile:
        path = self._strip_protocol(path)
        if mode == "rb":
            return self._open_to_read(path, block_size, options)
        if mode == "xb" and self.isfile(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        check_key(path)  # before anything is written
        return ArtifactFile(self, path, mode, block_size, **options)

    def _open_to_read(self, path: str, block_size: int | None, options: dict[str, Any]) -> ArtifactFile:
        entry = self.info_of_file(path)
        version = entry["version"]
        if options.pop("version", None) not in (None, version):  # of a file that was open and pickled
            raise replaced(path)
        file = ArtifactFile(self, path, "rb", block_size, **{**options, "size": entry["size"], "version": version})
        file.details = entry
        return file

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """Read a file, or a range of it; negative numbers count from its end."""
        path, version = self._strip_protocol(path), None
        if min(start or 0, end or 0) < 0:
            entry = self.info_of_file(path)
            version = entry["version"]
            start, end, _step = slice(start, end).indices(entry["size"])
        offset = start or 0
        return self.fetch(path, offset, None if end is None else max(0, end - offset), version)

    def pipe_file(self, path: str, value: Any, mode: str = "overwrite", **options: Any) -> None:
        """Write a file; with mode "create" only where there is none."""
        path = self._strip_protocol(path)
        if self._intrans:
            super().pipe_file(path, value, mode=mode, **options)
            return
        self.store_bytes(path, value, is_new=mode == "create")

    def put_file(
        self, lpath: Any, rpath: str, callback: Any = DEFAULT_CALLBACK, mode: str = "overwrite", **options: Any
    ) -> None:
        """Write a local file, streamed; a directory does nothing."""
        if Path(lpath).is_dir():
            return
        if self._intrans:
            super().put_file(lpath, rpath, callback=callback, mode=mode, **options)
            return
        callback.set_size(Path(lpath).stat().st_size)
        progress = None if callback is DEFAULT_CALLBACK else callback.absolute_update
        self.store_file(lpath, self._strip_protocol(rpath), is_new=mode == "create", progress=progress)

    def get_file(
        self, rpath: str, lpath: Any, callback: Any = DEFAULT_CALLBACK, outfile: Any = None, **options: Any
    ) -> None:
        """Write a file to a local one, streamed; a directory becomes one."""
        if outfile is not None or isfilelike(lpath):
            super().get_file(rpath, lpath, callback=callback, outfile=outfile, **options)
            return
        path, progress = self._strip_protocol(rpath), None
        if callback is not DEFAULT_CALLBACK:
            callback.set_size(self.info(path)["size"])
            progress = callback.absolute_update
        try:
            self._ask(path, lambda store: store.download_file(path, lpath, progress=progress))
        except (FileNotFoundError, ValidationError):
            if not self.isdir(path):
                raise
            Path(lpath).mkdir(parents=True, exist_ok=True)

    # Files

    def cp_file(self, path1: str, path2: str, **_: Any) -> None:
        """Copy a file inside the store; a directory does nothing."""
        source, dest = self._strip_protocol(path1), self._strip_protocol(path2)
        try:
            self._ask(source, lambda store: store.copy(source, dest))
        except (FileNotFoundError, ValidationError):
            if not self.isdir(source):
                raise

    def rm_file(self, path: str) -> None:
        """Delete a file.

        Raises:
            FileNotFoundError: there is none.
            IsADirectoryError: it is a directory.
        """
        path = self._strip_protocol(path)
        if not path or not self._ask(path, lambda store: store.delete(path)):
            raise is_directory(path) if self.isdir(path) else not_found(path)

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Delete files; with ``recursive`` also directories with all below; see fsspec for the arguments.

        Raises:
            FileNotFoundError: there is nothing to delete.
            IsADirectoryError: a directory, without ``recursive``.
            ValidationError: the root, which would be everything.
        """
        if recursive and maxdepth is None:
            if not sum(self._rm_below(root) for root in self.expand_path(path)):
                raise not_found(str(path))
            return
        for name in self.expand_path(path, recursive=recursive, maxdepth=maxdepth):
            if not recursive or self.isfile(name):
                self.rm_file(name)

    def _rm_below(self, path: str) -> int:
        return self._ask(path, lambda store: store.delete_prefix(path))

    # For open files

    def fetch(self, path: str, offset: int, length: int | None, version: str | None) -> bytes:
        """Read a range of a file, which ends where the file ends.

        Args:
            path: of the file.
            offset: where the range begins, bytes.
            length: how many bytes at most; None for all that follow.
            version: of the file that is meant; None for any.

        Raises:
            FileNotFoundError: there is no file.
            OSError: ``ESTALE``: it is not that version any more.
        """
        reading = call(ArtifactActor.get, check_key(path), offset, length, version)
        try:
            found: bytes = self._ask(path, lambda store: store.channel.wait(reading))
        except (ConflictError, FileNotFoundError) as error:
            if version is None:
                raise
            raise replaced(path) from error
        return found

    def begin_fetch(self, path: str, offset: int, length: int, version: str | None) -> "ray.ObjectRef[bytes] | None":
        """Ask for a range of a file, for ``finish_fetch``; what fails is told there."""
        with suppress(MorphMLRayError):
            return self.store.channel.submit(call(ArtifactActor.get, check_key(path), offset, length, version))
        return None

    def finish_fetch(
        self, asked: "ray.ObjectRef[bytes] | None", path: str, offset: int, length: int, version: str | None
    ) -> bytes:
        """Wait for a range that ``begin_fetch`` asked for; see ``fetch``."""
        with suppress(MorphMLRayError):
            if asked is not None:
                return self.store.channel.result(asked)
        return self.fetch(path, offset, length, version)  # which says what is wrong, where it still is

    def store_bytes(self, path: str, data: Buffer, *, is_new: bool) -> None:
        """Make bytes a file at once, whatever transaction of fsspec is under way.

        Raises:
            FileExistsError: ``is_new``, and there is one.
        """
        self._ask(path, lambda store: store.upload_bytes(data, path, if_absent=is_new))

    def store_file(self, lpath: Any, path: str, *, is_new: bool, progress: Progress | None = None) -> None:
        """Make a local file a file at once; see ``store_bytes``."""
        self._ask(path, lambda store: store.upload_file(lpath, path, if_absent=is_new, progress=progress))

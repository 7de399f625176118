"""The artifacts as a file system of fsspec: ``morphml://path/to/key`` in pandas, pyarrow, torch and others."""

import errno
import os
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsspec.callbacks import DEFAULT_CALLBACK  # type: ignore[import-untyped]  # fsspec carries no type information
from fsspec.utils import isfilelike  # type: ignore[import-untyped]  # the same
from typing_extensions import Buffer

from morphml_ray.backends.artifact_checks import check_key
from morphml_ray.client.artifacts import ArtifactStore
from morphml_ray.client.progress import Progress
from morphml_ray.errors import MorphMLRayError, ValidationError
from morphml_ray.integrations.artifact_file import ArtifactFile
from morphml_ray.integrations.artifact_tree import ArtifactTree, is_directory, not_found, os_errors

if TYPE_CHECKING:
    import ray

IN_FLIGHT = 16


class MorphmlFileSystem(ArtifactTree):
    """The artifacts of a running storage, as files.

    It finds the storage, which ``connect(name=..., namespace=...)`` started anywhere in the cluster, when it is first
    used, in any process: only the actors hold credentials. It pickles by name and namespace. Nothing is cached: other
    processes write too.

    Files are objects: they appear in whole when they are closed, also over ones that were there, and are never
    appended to. Directories are what the slashes in keys make of them: ``mkdir`` does nothing, and one without files
    does not exist. A listing reads all keys below the directory.

    Errors are Python's own where it has some: FileNotFoundError, FileExistsError, IsADirectoryError, and an OSError
    for damage; ``BackendUnavailable`` is a ConnectionError, and ``ValidationError`` a ValueError.

    Args:
        name: of the storage.
        namespace: of Ray.
        storage_options: what fsspec itself takes.
    """

    protocol = "morphml"

    # Bytes

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **options: Any) -> ArtifactFile:
        path = self._strip_protocol(path)
        if mode == "rb":
            entry = self.info(path)
            if entry["type"] == "directory":
                raise is_directory(path)
            file = ArtifactFile(self, path, mode, block_size, size=entry["size"], **options)
            file.details = entry
            return file
        if mode == "xb" and self.isfile(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        check_key(path)  # before anything is written
        return ArtifactFile(self, path, mode, block_size, **options)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """Read a file, or a range of it; negative numbers count from its end."""
        path = self._strip_protocol(path)
        if min(start or 0, end or 0) < 0:
            start, end, _step = slice(start, end).indices(self.info(path)["size"])
        offset = start or 0
        length = None if end is None else max(0, end - offset)
        return self._ask(path, lambda store: store.download_bytes(path, offset, length))

    def cat(self, path: Any, recursive: bool = False, on_error: str = "raise", **options: Any) -> Any:
        """Read one file, or several at once: a dict, by path; see fsspec for the arguments."""
        paths = self.expand_path(path)
        if recursive:
            paths = list(dict.fromkeys(name for root in paths for name in self.find(root)))
        elif not isinstance(path, list) and paths == [self._strip_protocol(path)]:
            return self.cat_file(paths[0], **options)
        if options:
            return super().cat(paths, on_error=on_error, **options)
        contents: dict[str, Any] = {}
        for name, result in self._overlap(paths, lambda store, key: store.download_bytes.remote(key)):
            if not isinstance(result, Exception) or on_error == "return":
                contents[name] = result
            elif on_error == "raise":
                raise result
        return contents

    def pipe_file(self, path: str, value: Any, mode: str = "overwrite", **options: Any) -> None:
        """Write a file; with mode "create" only where there is none."""
        path = self._strip_protocol(path)
        if self._intrans:
            super().pipe_file(path, value, mode=mode, **options)
            return
        self.store_bytes(path, value, is_new=mode == "create")

    def pipe(self, path: Any, value: Any = None, **options: Any) -> None:
        """Write one file, or a dict of several at once."""
        if not isinstance(path, dict) or self._intrans or options:
            super().pipe(path, value, **options)
            return
        values = {self._strip_protocol(key): data for key, data in path.items()}
        for _, result in self._overlap(list(values), lambda store, key: store.upload_bytes.remote(values[key], key)):
            if isinstance(result, Exception):
                raise result

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
        path = self._strip_protocol(rpath)
        progress = None if callback is DEFAULT_CALLBACK else callback.absolute_update
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

    def store_bytes(self, path: str, data: Buffer, *, is_new: bool) -> None:
        """Make bytes a file at once, whatever transaction of fsspec is under way.

        Raises:
            FileExistsError: ``is_new``, and there is one.
        """
        self._ask(path, lambda store: store.upload_bytes(data, path, if_absent=is_new))

    def store_file(self, lpath: Any, path: str, *, is_new: bool, progress: Progress | None = None) -> None:
        """Make a local file a file at once; see ``store_bytes``."""
        self._ask(path, lambda store: store.upload_file(lpath, path, if_absent=is_new, progress=progress))

    def _overlap(
        self, paths: list[str], send: "Callable[[ArtifactStore, str], ray.ObjectRef[Any]]"
    ) -> Iterator[tuple[str, Any]]:
        """Send calls side by side; gives their paths with the answers, or the errors, in order."""
        store, waiting = self.store, deque(paths)
        channel = store.channel
        in_flight: deque[tuple[str, ray.ObjectRef[Any]]] = deque()
        while waiting or in_flight:
            while waiting and len(in_flight) < IN_FLIGHT:
                path = waiting.popleft()
                in_flight.append((path, send(store, path)))
            path, ref = in_flight.popleft()
            try:
                with os_errors(path):
                    result = channel.result(ref)
            except (MorphMLRayError, OSError) as error:
                result = error
            yield path, result

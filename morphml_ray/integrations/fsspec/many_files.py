"""The part of the file system that moves many files at once."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fsspec.callbacks import DEFAULT_CALLBACK  # type: ignore[import-untyped]  # fsspec carries no type information
from fsspec.spec import AbstractFileSystem  # type: ignore[import-untyped]  # the same

from morphml_ray.integrations.fsspec.bulk import (
    BATCH_BYTES,
    Pair,
    copy_each,
    delete_each,
    download_each,
    is_small,
    read_each,
    read_ranges,
    upload_each,
    write_each,
)
from morphml_ray.integrations.fsspec.planning import Plan, plan_move
from morphml_ray.integrations.fsspec.tree import ArtifactTree


class ManyFiles(ArtifactTree):
    """Reads, writes, copies and moves many files; see ``MorphmlFileSystem``.

    What goes where is decided as fsspec decides it, on one listing. Small files then go in batches, the others singly.
    """

    protocol = "morphml"

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
        for name, result in read_each(self.store, paths):
            if not isinstance(result, Exception) or on_error == "return":
                contents[name] = result
            elif on_error == "raise":
                raise result
        return contents

    def cat_ranges(
        self,
        paths: list[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        on_error: str = "return",
        **options: Any,
    ) -> list[Any]:
        """Read ranges of files, in order; see fsspec for the arguments."""
        if not isinstance(paths, list) or max_gap is not None or options:
            found: list[Any] = super().cat_ranges(paths, starts, ends, max_gap, on_error, **options)
            return found
        starts = starts if isinstance(starts, list) else [starts] * len(paths)
        ends = ends if isinstance(ends, list) else [ends] * len(paths)
        bounds = list(zip(paths, starts, ends, strict=True))
        plain = [
            number
            for number, (_, start, end) in enumerate(bounds)
            if end is not None and 0 <= (start or 0) <= end <= (start or 0) + BATCH_BYTES
        ]
        ranges = [
            (self._strip_protocol(path), start or 0, end - (start or 0))
            for path, start, end in (bounds[number] for number in plain)
        ]
        answers = dict(zip(plain, read_ranges(self.store, ranges), strict=True))
        return [
            self._cat_range(*each, on_error) if answers.get(number) is None else answers[number]
            for number, each in enumerate(bounds)
        ]

    def _cat_range(self, path: str, start: int | None, end: int | None, on_error: str) -> Any:
        try:
            return self.cat_file(path, start, end)
        except Exception as error:  # whatever it is, fsspec wants it in the place of the bytes
            if on_error == "return":
                return error
            raise

    def pipe(self, path: Any, value: Any = None, **options: Any) -> None:
        """Write one file, or a dict of several at once."""
        if not isinstance(path, dict) or self._intrans or options:
            super().pipe(path, value, **options)
            return
        contents = {self._strip_protocol(key): data for key, data in path.items()}
        for _, result in write_each(self.store, contents):
            if isinstance(result, Exception):
                raise result

    def get(
        self,
        rpath: Any,
        lpath: Any,
        recursive: bool = False,
        callback: Any = DEFAULT_CALLBACK,
        maxdepth: int | None = None,
        **options: Any,
    ) -> None:
        """Write files to local ones; see fsspec for the arguments."""
        plan = Plan.of(self)
        AbstractFileSystem.get(plan, rpath, lpath, recursive=recursive, maxdepth=maxdepth)
        callback.set_size(len(plan.pairs))
        small: list[Pair] = []
        singly: list[Pair] = []
        for source, dest in plan.pairs:
            if plan.is_known_directory(source):
                Path(dest).mkdir(parents=True, exist_ok=True)
                callback.relative_update()
            elif isinstance(dest, (str, os.PathLike)) and not options and is_small(plan.size_of(source)):
                small.append((self._strip_protocol(source), dest))
            else:
                singly.append((source, dest))
        for pair, size_bytes in download_each(self.store, small):
            if size_bytes is None:
                singly.append(pair)
            else:
                _tell(callback, pair, size_bytes)
        for source, dest in singly:
            with callback.branched(source, dest) as child:
                self.get_file(source, dest, callback=child, **options)
            callback.relative_update()

    def put(
        self,
        lpath: Any,
        rpath: Any,
        recursive: bool = False,
        callback: Any = DEFAULT_CALLBACK,
        maxdepth: int | None = None,
        **options: Any,
    ) -> None:
        """Write local files to files; see fsspec for the arguments."""
        plan = Plan.of(self)
        AbstractFileSystem.put(plan, lpath, rpath, recursive=recursive, maxdepth=maxdepth)
        callback.set_size(len(plan.pairs))
        small: list[tuple[Pair, int]] = []
        singly: list[Pair] = []
        for source, dest in plan.pairs:
            size_bytes = None if options or self._intrans else _size_of_file(source)
            if size_bytes is not None and is_small(size_bytes):
                small.append(((source, self._strip_protocol(dest)), size_bytes))
            else:
                singly.append((source, dest))
        sizes = dict(small)
        for pair, is_stored in upload_each(self.store, small):
            if is_stored:
                _tell(callback, pair, sizes[pair])
            else:
                singly.append(pair)
        for source, dest in singly:
            with callback.branched(source, dest) as child:
                self.put_file(source, dest, callback=child, **options)
            callback.relative_update()

    def copy(
        self,
        path1: Any,
        path2: Any,
        recursive: bool = False,
        maxdepth: int | None = None,
        on_error: str | None = None,
        **options: Any,
    ) -> None:
        """Copy files inside the store; see fsspec for the arguments."""
        plan = Plan.of(self)
        AbstractFileSystem.copy(plan, path1, path2, recursive=recursive, maxdepth=maxdepth, on_error="raise")
        files = [pair for pair in plan.pairs if not plan.is_known_directory(pair[0])]
        for source, dest in self._copy_files(files):
            try:
                self.cp_file(source, dest, **options)
            except FileNotFoundError:
                if on_error == "raise" or not (on_error or recursive):
                    raise

    def _copy_files(self, pairs: Iterable[Pair]) -> list[Pair]:
        """Copy files in batches; gives those that must be copied singly."""
        stripped = [(self._strip_protocol(source), self._strip_protocol(dest)) for source, dest in pairs]
        if {source for source, _ in stripped} & {dest for _, dest in stripped}:
            return stripped  # in their order
        return [pair for pair, is_copied in copy_each(self.store, stripped) if not is_copied]

    def mv(self, path1: Any, path2: Any, recursive: bool = False, maxdepth: int | None = None, **_: Any) -> None:
        """Move files; nothing is deleted before all copies stand. Onto itself a path is not moved.

        Raises:
            FileNotFoundError: there is nothing to move.
            OSError: ``EINVAL``: something would move into itself, or onto another thing that moves too.
        """
        moved = plan_move(self, path1, path2, recursive=recursive, maxdepth=maxdepth)
        for source, dest in self._copy_files(moved):
            self.cp_file(source, dest)
        for _path, result in delete_each(self.store, [source for source, _dest in moved]):
            if isinstance(result, Exception):
                raise result

    move = rename = mv


def _size_of_file(path: str) -> int | None:
    """Give the size of a local file; None where it is none."""
    found = Path(path)
    return found.stat().st_size if found.is_file() else None


def _tell(callback: Any, pair: Pair, size_bytes: int) -> None:
    """Tell fsspec's progress that a file has passed."""
    with callback.branched(*pair) as child:
        child.set_size(size_bytes)
        child.absolute_update(size_bytes)
    callback.relative_update()

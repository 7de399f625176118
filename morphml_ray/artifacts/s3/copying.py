"""Copying objects inside the server."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from typing import Any

from botocore.exceptions import ClientError

from morphml_ray.artifacts.checks import MAX_CHUNKS
from morphml_ray.artifacts.contract import ObjectInfo
from morphml_ray.artifacts.s3.bucket import Bucket
from morphml_ray.artifacts.s3.driver_errors import code_of
from morphml_ray.artifacts.s3.metadata import KEPT_HEADERS, with_write_id
from morphml_ray.artifacts.s3.parts import Part, work_on
from morphml_ray.errors import ConflictError

# What the server copies in one request, which has to end before the time-out.
_SINGLE_BYTES = 256 * 1024 * 1024

Ending = Callable[[str, str], AbstractContextManager[None]]
"""Given a key and the id of an upload: ends that when the block fails."""


class Copier:
    """Copies objects in one bucket.

    Args:
        bucket: where they are.
        single_bytes: how large an object, or a part, is copied in one request.
    """

    def __init__(self, bucket: Bucket, single_bytes: int = _SINGLE_BYTES) -> None:
        self._bucket = bucket
        self._single_bytes = single_bytes

    def copy(self, source: str, dest: str, write_id: str, ending: Ending) -> ObjectInfo:
        """Copy an object; see ``ArtifactBackend.copy``."""
        found = self._bucket.head(source)
        if found is None:
            raise self._bucket.missing(source)
        info, answer = found
        if source == dest:
            return info
        if info.size_bytes <= self._single_bytes:
            self._copy_whole(source, dest, write_id, answer)
        else:
            self._copy_parts(source, dest, write_id, info, answer, ending)
        return info._replace(key=dest, last_modified=datetime.now(timezone.utc), version=None, write_id=write_id)

    def _origin(self, source: str, etag: str) -> dict[str, Any]:
        place = {"Bucket": self._bucket.name, "Key": self._bucket.full_key(source)}
        return {"CopySource": place, "CopySourceIfMatch": etag}

    def _description(self, write_id: str, answer: Any) -> dict[str, Any]:
        said = {name: answer[name] for name in ("ContentType", *KEPT_HEADERS) if answer.get(name)}
        return {**said, "Metadata": with_write_id(answer["Metadata"], write_id), **self._bucket.encryption()}

    def _copy_whole(self, source: str, dest: str, write_id: str, answer: Any) -> None:
        with self._bucket.working(f"copy {source}") as client:
            try:
                client.copy_object(
                    Bucket=self._bucket.name,
                    Key=self._bucket.full_key(dest),
                    MetadataDirective="REPLACE",
                    **self._origin(source, answer["ETag"]),
                    **self._description(write_id, answer),
                )
            except ClientError as error:
                raise self._explain(source, error) from error

    def _copy_parts(self, source: str, dest: str, write_id: str, info: ObjectInfo, answer: Any, ending: Ending) -> None:
        with self._bucket.working(f"copy {source}") as client:
            upload = client.create_multipart_upload(
                Bucket=self._bucket.name,
                Key=self._bucket.full_key(dest),
                **self._description(write_id, answer),
            )["UploadId"]
        with ending(dest, upload):
            parts = self._parts(info.size_bytes)
            etags = work_on(
                self._bucket.pool,
                [part._replace(size_bytes=1) for part in parts],  # no byte of them comes into this process
                lambda part: self._copy_part(source, dest, upload, parts[part.number], answer["ETag"]),
                self._bucket.parts_at_once,
            )
            self._complete(dest, upload, etags, info._replace(write_id=write_id))

    def _complete(self, dest: str, upload: str, etags: list[str], copied: ObjectInfo) -> None:
        listed: Any = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
        with self._bucket.working(f"copy to {dest}") as client:
            try:
                client.complete_multipart_upload(
                    **self._bucket.where(dest), UploadId=upload, MultipartUpload={"Parts": listed}
                )
            except ClientError as error:
                # The answer to the first attempt may have been lost.
                if code_of(error) != "NoSuchUpload" or not self._is_copied(dest, copied):
                    raise

    def _is_copied(self, dest: str, copied: ObjectInfo) -> bool:
        """Tell whether the copy is there."""
        found = self._bucket.head(dest)
        return found is not None and found[0][:2] == (dest, copied.size_bytes) and found[0].write_id == copied.write_id

    def _parts(self, size_bytes: int) -> list[Part]:
        part_bytes = max(self._single_bytes, -(-size_bytes // MAX_CHUNKS))
        return [
            Part(number, offset, min(part_bytes, size_bytes - offset))
            for number, offset in enumerate(range(0, size_bytes, part_bytes))
        ]

    def _copy_part(self, source: str, dest: str, upload: str, part: Part, etag: str) -> str:
        with self._bucket.working(f"copy {source}") as client:
            try:
                answer = client.upload_part_copy(
                    Bucket=self._bucket.name,
                    Key=self._bucket.full_key(dest),
                    UploadId=upload,
                    PartNumber=part.number + 1,
                    CopySourceRange=f"bytes={part.offset}-{part.offset + part.size_bytes - 1}",
                    **self._origin(source, etag),
                )
            except ClientError as error:
                raise self._explain(source, error) from error
        return answer["CopyPartResult"]["ETag"]

    def _explain(self, source: str, error: ClientError) -> Exception:
        if code_of(error) == "PreconditionFailed":
            return ConflictError(f"{self._bucket.place}: {source} was replaced while it was copied")
        return error

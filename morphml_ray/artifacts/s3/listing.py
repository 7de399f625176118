"""Listing objects and deleting many of them, page by page."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from morphml_ray.artifacts.checks import check_key
from morphml_ray.artifacts.contract import ObjectInfo, ObjectPage
from morphml_ray.artifacts.s3.bucket import Bucket
from morphml_ray.errors import BackendUnavailable, ConfigurationError, ValidationError

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

_PAGE = 1000  # of S3, for listing and deleting
_TOKENS = {"next": "ContinuationToken", "after": "StartAfter"}
_TRANSIENT = frozenset({"InternalError", "SlowDown", "ServiceUnavailable", "RequestTimeout", "OperationAborted"})


def list_page(bucket: Bucket, prefix: str, token: str | None, limit: int) -> ObjectPage:
    """List some objects, in the order of the server.

    What others left under keys that ``check_key`` refuses, markers of folders for one, is left out.
    """
    found, next_token = _list(bucket, bucket.full_key(prefix), token, limit)
    infos = (ObjectInfo(bucket.own_key(one["Key"]), one["Size"], one["LastModified"]) for one in found)
    return ObjectPage([info for info in infos if _is_key(info.key)], next_token)


def list_all(bucket: Bucket, prefix: str, limit: int | None = None) -> Iterator[ObjectInfo]:
    """List objects in the order of the server, ``limit`` at most, a request a page."""
    token, left = None, limit
    while True:
        page = list_page(bucket, prefix, token, _PAGE if left is None else left)
        yield from page.objects
        left = None if left is None else left - len(page.objects)
        token = page.next_token
        if token is None or left == 0:
            return


def delete_all(bucket: Bucket, prefix: str) -> int:
    """Delete the objects whose keys begin with ``prefix``; gives how many there were.

    Raises:
        BackendUnavailable: some were not deleted.
        ConfigurationError: some may not be deleted.
    """
    deleted, token = 0, None
    while True:
        found, token = _list(bucket, bucket.full_key(prefix), token, _PAGE)
        if found:
            keys = [one["Key"] for one in found]
            left = _delete(bucket, prefix, keys)
            deleted += len(keys) - len(left)
            if left:
                raise _refusal(bucket, prefix, deleted, left)
        if token is None:
            return deleted


def _list(bucket: Bucket, full_prefix: str, token: str | None, limit: int) -> tuple[list[Any], str | None]:
    count = min(limit, _PAGE)
    way, _, value = (token or "").partition(":")
    if token is not None and way not in _TOKENS:
        raise ValidationError(f"{token!r} is no token of a listing")
    arguments: Any = {_TOKENS[way]: value} if way else {}
    with bucket.working(f"list {full_prefix}") as client:
        answer = client.list_objects_v2(Bucket=bucket.name, Prefix=full_prefix, MaxKeys=count, **arguments)
    found: list[Any] = list(answer.get("Contents", []))
    if answer["IsTruncated"]:
        return found, f"next:{answer['NextContinuationToken']}"
    # SeaweedFS calls a page the last one when it ends with "b" and only keys that begin with "b/" are left.
    return found, f"after:{found[-1]['Key']}/" if len(found) == count else None


def _delete(bucket: Bucket, prefix: str, keys: list[str]) -> list[Any]:
    """Delete a page of objects; gives the server's words on those that are left."""
    patience = bucket.patience()
    while True:
        with bucket.working(f"delete_prefix {prefix}") as client:
            left = _delete_once(client, bucket.name, keys)
        if not left or any(one.get("Code") not in _TRANSIENT for one in left) or not patience.pause():
            return left
        keys = [one["Key"] for one in left]


def _delete_once(client: "S3Client", name: str, keys: list[str]) -> list[Any]:
    answer = client.delete_objects(Bucket=name, Delete={"Quiet": True, "Objects": [{"Key": key} for key in keys]})
    return list(answer.get("Errors", []))


def _refusal(bucket: Bucket, prefix: str, deleted: int, left: list[Any]) -> Exception:
    said = f"{left[0].get('Code', '')} {left[0].get('Message', '')}".strip()
    text = (
        f"{bucket.place}: delete_prefix {prefix}: deleted {deleted}, but {len(left)} objects stayed, "
        f"{bucket.own_key(left[0].get('Key', ''))} for one: {said}"
    )
    is_transient = left[0].get("Code") in _TRANSIENT
    return BackendUnavailable(text) if is_transient else ConfigurationError(text)


def _is_key(key: str) -> bool:
    try:
        check_key(key)
    except ValidationError:
        return False
    return True

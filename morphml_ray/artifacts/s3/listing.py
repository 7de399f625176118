"""Listing objects and deleting many of them, page by page."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from morphml_ray.artifacts.checks import check_key
from morphml_ray.artifacts.contract import ObjectFolder, ObjectInfo, ObjectPage
from morphml_ray.artifacts.s3.bucket import Bucket
from morphml_ray.errors import BackendUnavailable, ConfigurationError, ValidationError

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

_PAGE = 1000  # of S3, for listing and deleting
_TOKENS = {"next": "ContinuationToken", "after": "StartAfter"}
_TRANSIENT = frozenset({"InternalError", "SlowDown", "ServiceUnavailable", "RequestTimeout", "OperationAborted"})


class _Page(NamedTuple):
    """What a server lists at once: objects, what those with a further delimiter begin with, and how to go on."""

    found: list[Any]
    prefixes: list[str]
    next_token: str | None


def list_page(bucket: Bucket, prefix: str, token: str | None, limit: int) -> ObjectPage:
    """List some objects, in the order of the server.

    What others left under keys that ``check_key`` refuses, markers of folders for one, is left out.
    """
    page = _list(bucket, bucket.full_key(prefix), token, limit)
    infos = (_describe(bucket, one) for one in page.found)
    return ObjectPage([info for info in infos if _is_key(info.key)], page.next_token)


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


def list_folder(bucket: Bucket, prefix: str) -> ObjectFolder:
    """List what is directly below a prefix, a request a page; see ``list_page`` for what is left out."""
    objects: dict[str, ObjectInfo] = {}
    folders: set[str] = set()
    token = None
    while True:
        page = _list(bucket, bucket.full_key(prefix), token, _PAGE, Delimiter="/")
        known = len(objects) + len(folders)
        objects.update((one["Key"], _describe(bucket, one)) for one in page.found)
        folders.update(page.prefixes)
        token = page.next_token
        # A page that goes on after a folder may bring that folder once more.
        if token is None or len(objects) + len(folders) == known:
            break
    infos = [info for info in objects.values() if _is_key(info.key)]
    names = [name for name in (bucket.own_key(folder).removesuffix("/") for folder in folders) if _is_key(name)]
    return ObjectFolder(sorted(infos, key=lambda info: info.key.encode()), sorted(names, key=str.encode))


def delete_all(bucket: Bucket, prefix: str) -> int:
    """Delete the objects whose keys begin with ``prefix``; gives how many there were.

    Raises:
        BackendUnavailable: some were not deleted.
        ConfigurationError: some may not be deleted.
    """
    deleted, token = 0, None
    while True:
        page = _list(bucket, bucket.full_key(prefix), token, _PAGE)
        token = page.next_token
        if page.found:
            keys = [one["Key"] for one in page.found]
            left = _delete(bucket, prefix, keys)
            deleted += len(keys) - len(left)
            if left:
                raise _refusal(bucket, prefix, deleted, left)
        if token is None:
            return deleted


def _list(bucket: Bucket, full_prefix: str, token: str | None, limit: int, **more: str) -> _Page:
    count = min(limit, _PAGE)
    way, _, value = (token or "").partition(":")
    if token is not None and way not in _TOKENS:
        raise ValidationError(f"{token!r} is no token of a listing")
    arguments: Any = {_TOKENS[way]: value, **more} if way else more
    with bucket.working(f"list {full_prefix}") as client:
        answer = client.list_objects_v2(Bucket=bucket.name, Prefix=full_prefix, MaxKeys=count, **arguments)
    found: list[Any] = list(answer.get("Contents", []))
    prefixes = [one["Prefix"] for one in answer.get("CommonPrefixes", [])]
    if answer["IsTruncated"]:
        return _Page(found, prefixes, f"next:{answer['NextContinuationToken']}")
    if len(found) + len(prefixes) < count:
        return _Page(found, prefixes, None)
    # SeaweedFS calls a page the last one when it ends with "b" and only keys that begin with "b/" are left.
    last = max([*(f"{one['Key']}/" for one in found[-1:]), *prefixes[-1:]])
    return _Page(found, prefixes, f"after:{last}")


def _describe(bucket: Bucket, found: Any) -> ObjectInfo:
    return ObjectInfo(bucket.own_key(found["Key"]), found["Size"], found["LastModified"])


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

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from morphml_ray.config import check_directory, check_local_filesystem
from morphml_ray.config.directories import NETWORK_FILESYSTEMS
from morphml_ray.errors import ConfigurationError

NOBODY = 65534


class Mount(NamedTuple):
    mountpoint: str
    fstype: str


@contextlib.contextmanager
def an_ordinary_user() -> Iterator[None]:
    """Give up root's rights, to which permission bits do not apply."""
    uid = os.geteuid()
    if uid != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(uid)


def test_a_directory_is_created_and_left_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert check_directory("a/b") == tmp_path / "a" / "b"
    assert check_directory(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize("below", ["file", "file/sub/dir"])
def test_a_file_in_the_way_is_named(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=rf"{tmp_path}/{below} .*\({tmp_path}/file is a file\)") as caught:
        check_directory(tmp_path / below)
    assert "Set root= or MORPHML_ROOT" in str(caught.value)


@pytest.mark.parametrize("path", ["/proc/morphml_storage", "/proc", "/proc/self/fd"])
def test_a_directory_that_takes_no_files_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match=f"The directory {path} cannot be written: .*Set database="):
        check_directory(path, setting="database=")


def test_a_directory_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with an_ordinary_user(), pytest.raises(ConfigurationError, match="Permission denied"):
            check_directory(tmp_path)
        with an_ordinary_user(), pytest.raises(ConfigurationError, match="Permission denied"):
            check_directory(tmp_path / "new")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    "fstype",
    [
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "lustre", "gpfs", "ceph", "fuse.ceph-fuse"),
        *("fuse.glusterfs", "beegfs", "afs", "9p", "fuse.s3fs", "fuse.juicefs", "NFS"),
    ],
)
def test_lesson_15_a_network_file_system_is_refused(fstype: str) -> None:
    def mounts() -> list[Mount]:
        return [Mount("/", "ext4"), Mount("/home", fstype), Mount("/home/ann/scratch", "xfs")]

    with pytest.raises(ConfigurationError, match=rf"\({fstype}, mounted on /home\).*local directory.*PostgreSQL"):
        check_local_filesystem("/home/ann/morphml.db", partitions=mounts)
    for local in ("/home/ann/scratch/morphml.db", "/home2/morphml.db", "/data/morphml.db"):
        assert check_local_filesystem(local, partitions=mounts) is None  # type: ignore[func-returns-value]  # no error


@pytest.mark.parametrize("fstype", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "apfs", "fuse.fuse-overlayfs"])
def test_lesson_15_a_local_file_system_is_accepted(fstype: str) -> None:
    assert fstype.removeprefix("fuse.") not in NETWORK_FILESYSTEMS
    check_local_filesystem("/data/x.db", partitions=lambda: [Mount("/", "nfs"), Mount("/data", fstype)])


def test_lesson_15_the_later_of_two_mounts_on_one_place_counts() -> None:
    table = [Mount("/", "ext4"), Mount("/home", "autofs"), Mount("/home", "nfs")]
    with pytest.raises(ConfigurationError, match=r"\(nfs, mounted on /home\)"):
        check_local_filesystem("/home/x.db", partitions=lambda: table)
    check_local_filesystem("/home/x.db", partitions=lambda: [*table, Mount("/home", "ext4")])


def test_lesson_15_a_link_to_a_network_file_system_is_followed(tmp_path: Path) -> None:
    (tmp_path / "share").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "share")
    with pytest.raises(ConfigurationError, match="nfs4"):
        check_local_filesystem(
            tmp_path / "link" / "new" / "x.db", partitions=lambda: [Mount(f"{tmp_path}/share", "nfs4")]
        )


def test_this_machine_has_a_mount_table(tmp_path: Path) -> None:
    assert check_local_filesystem(tmp_path) is None  # type: ignore[func-returns-value]  # no error on a local disk

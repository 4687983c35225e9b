"""overlayfs' size quotas: project quotas of XFS and ext4, where the kernel keeps them."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from rorqual.containerd.metadata.records import Kind
from rorqual.containerd.snapshotters.contract import SIZE_LABEL
from rorqual.containerd.snapshotters.overlayfs import OverlayDriver
from rorqual.errdefs import InvalidArgument
from rorqual.linux import mount, projectquota

pytestmark = pytest.mark.root

MAKE = {"xfs": (["mkfs.xfs", "-q"], "pquota"), "ext4": (["mkfs.ext4", "-q", "-O", "quota,project"], "prjquota")}
MIB = 1 << 20


@pytest.fixture(params=MAKE)
def top(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A directory on a file system with project quotas."""
    command, option = MAKE[request.param]
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed")
    image, point = tmp_path / "image", tmp_path / "mnt"
    point.mkdir()
    with image.open("wb") as file:
        file.truncate(400 * MIB)
    subprocess.run([*command, image], check=True)
    if subprocess.run(["mount", "-o", f"loop,{option}", image, point], check=False, capture_output=True).returncode:
        pytest.skip(f"this kernel's {request.param} has no project quotas: scripts/vm's has")
    yield point
    subprocess.run(["umount", point], check=True)


def fill(path: Path, mebibytes: int) -> int:
    """How many fitted."""
    with path.open("wb", buffering=0) as file:
        for written in range(mebibytes):
            try:
                file.write(os.urandom(MIB))
            except OSError as e:
                assert e.errno in (errno.EDQUOT, errno.ENOSPC)
                return written
    return mebibytes


def test_a_container_s_files_are_bounded_and_the_others_are_not(top: Path) -> None:
    root = top / "snapshots"
    root.mkdir()
    driver = OverlayDriver(str(root))
    driver.create(1, [], Kind.ACTIVE, {})
    Path(driver.layer(1), "base").write_bytes(b"x" * 30 * MIB)  # the image is not counted
    for number, labels in ((2, {SIZE_LABEL: str(20 * MIB)}), (3, {}), (4, {SIZE_LABEL: str(40 * MIB)})):
        driver.create(number, [1], Kind.ACTIVE, labels)
        (wanted,) = driver.mounts(number, [1], Kind.ACTIVE, labels)
        point = top / f"merged-{number}"
        point.mkdir()
        mount.mount("overlay", str(point), "overlay", 0, ",".join(wanted.options))
    try:
        assert 15 <= fill(top / "merged-2/big", 60) < 21
        assert fill(top / "merged-3/big", 60) == 60
        assert 35 <= fill(top / "merged-4/big", 60) < 41
        (top / "merged-2/big").unlink()
        (top / "merged-2/dir").mkdir()
        os.rename(top / "merged-2/dir", top / "merged-2/moved")
        assert (top / "merged-2/base").stat().st_size == 30 * MIB
        with pytest.raises(OSError, match=r"quota|space"):
            (top / "merged-2/base").open("r+b").close()  # copied up: 30 MiB
    finally:
        for number in (2, 3, 4):
            mount.umount(str(top / f"merged-{number}"))
    project = projectquota.project_below(os.stat(root).st_ino, 2)
    driver.remove(2)
    (root / "free").mkdir()
    free = projectquota.open_directory(str(root / "free"))
    projectquota.assign(free, project)  # its number bounds nothing any more
    os.close(free)
    assert fill(root / "free/big", 60) == 60


def test_where_no_project_quotas_are_kept_it_is_docker_s_refusal(tmp_path: Path) -> None:
    driver = OverlayDriver(str(tmp_path))
    with pytest.raises(InvalidArgument, match="supported only for overlay over xfs with 'pquota' mount option"):
        driver.create(1, [], Kind.ACTIVE, {SIZE_LABEL: str(20 * MIB)})
    assert os.listdir(tmp_path) == []

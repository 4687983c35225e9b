"""A container's files by fd: whose they are, and what the host sees of it."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rorqual.daemon.remote import Mount
from rorqual.daemon.services.containers import rootfs
from rorqual.errdefs import Conflict
from rorqual.linux import paths
from rorqual.oci import runtime

pytestmark = pytest.mark.root


def in_thread(work: Callable[[], Any]) -> Any:
    """What `work` returns or raises, in a thread of its own."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(work())
        except BaseException as e:
            found.append(e)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]


@pytest.fixture
def scratch(tmp_path: Path) -> str:
    (tmp_path / "scratch").mkdir()
    return str(tmp_path / "scratch")


def layers(tmp_path: Path) -> tuple[Mount, ...]:
    for name in ("lower", "upper", "work"):
        (tmp_path / name).mkdir()
    options = tuple(f"{key}dir={tmp_path / key}" for key in ("lower", "upper", "work"))
    return (Mount("overlay", "overlay", options),)


def test_a_number_that_is_another_process_by_now_is_refused(scratch: str) -> None:
    plan = rootfs.Plan("a" * 64, scratch, pid=os.getpid())
    with pytest.raises(Conflict, match="is not running"):
        in_thread(lambda: rootfs.open_rootfs(plan))


def test_a_process_that_is_gone_is_a_container_that_does_not_run(scratch: str) -> None:
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    with pytest.raises(Conflict):
        in_thread(lambda: rootfs.open_rootfs(rootfs.Plan("a" * 64, scratch, pid=pid)))


def test_the_hosts_mounts_umask_and_directory_stay_as_they_are(tmp_path: Path, scratch: str) -> None:
    def seen() -> tuple[list[str], str, int]:
        """Other engines' mounts may come and go on the machine meanwhile; none of ours may be there."""
        mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(tmp_path) in line]
        return mounts, os.getcwd(), os.stat("/proc/self/ns/mnt").st_ino

    before = seen()
    root = in_thread(lambda: rootfs.open_rootfs(rootfs.Plan("x", scratch, layers=layers(tmp_path))))
    try:
        assert seen() == before
        os.close(paths.create_in_root(root.fd, "/made"))
        assert (tmp_path / "upper" / "made").exists()
    finally:
        root.close()
    root.close()


def test_binds_lie_where_links_of_the_root_lead_and_not_on_the_host(tmp_path: Path, scratch: str) -> None:
    mounts = layers(tmp_path)
    host = tmp_path / "host"
    host.mkdir()
    (tmp_path / "lower" / "link").symlink_to(host)
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "f").write_bytes(b"volume")
    bind = runtime.Mount("/link/deep", "bind", str(volume), ("rbind", "ro"))
    root = in_thread(lambda: rootfs.open_rootfs(rootfs.Plan("x", scratch, layers=mounts, binds=(bind,))))
    try:
        assert paths.read_in_root(root.fd, "/link/deep/f", 100) == b"volume"
        with pytest.raises(OSError, match="Read-only file system"):
            paths.open_in_root(root.fd, "/link/deep/new", os.O_WRONLY | os.O_CREAT, 0o600)
        assert os.listdir(host) == []
    finally:
        root.close()

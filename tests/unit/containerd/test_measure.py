"""How much disk a snapshot takes, whatever its container makes of it."""

import os
from pathlib import Path

from support.deep import descend

from rorqual.containerd.snapshotters.tree import measure
from rorqual.linux import removal


def test_a_tree_deeper_than_a_path_can_be_is_measured_too(tmp_path: Path) -> None:
    """A container makes it with a loop of mkdir and cd; `ps -s` and `system df` must go on."""
    top = tmp_path / "fs"
    top.mkdir()
    fd = descend(top, 3000)
    for name in ("file", "file2"):
        file = os.open(name, os.O_WRONLY | os.O_CREAT, dir_fd=fd)
        os.write(file, b"x" * 100_000)
        os.fsync(file)
        os.close(file)
    os.link("file", "again", src_dir_fd=fd, dst_dir_fd=fd)
    os.close(fd)
    try:
        found = measure(str(top))
    finally:
        removal.remove_tree(str(top))
    assert found.inodes == 1 + 3000 + 2
    assert found.size >= 200_000


def test_what_is_gone_takes_nothing(tmp_path: Path) -> None:
    assert measure(str(tmp_path / "none")).inodes == 0

"""The file systems on thin devices: made, mounted and grown by the system's programs. ext4 and XFS, as in Docker."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Sequence
from contextlib import suppress

from rorqual.errdefs import InvalidArgument
from rorqual.linux.loop import size_of

_BLKDISCARD = 0x1277
# Inode tables are written at once: what is lazy would be written, and so unshared, in every snapshot again.
_MAKE = {"ext4": ("-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"), "xfs": ("-q",)}
# Of two snapshots with the same UUID XFS would mount the first only.
_ALWAYS = {"ext4": (), "xfs": ("nouuid",)}


class ThinFileSystem:
    """`kind` is ext4 or xfs. Raises InvalidArgument when its programs are missing."""

    def __init__(self, kind: str, mount_options: str) -> None:
        self.kind = kind
        self._options = [*_ALWAYS[kind], *filter(None, mount_options.split(","))]
        if not shutil.which(f"mkfs.{kind}"):
            raise InvalidArgument(f"devmapper: dm.fs={kind}: mkfs.{kind} is not installed")

    def make(self, device: str, arguments: Sequence[str]) -> None:
        """An empty one. Raises InvalidArgument with the program's words."""
        _run(f"mkfs.{self.kind}", *_MAKE[self.kind], *arguments, device)

    def mount(self, device: str, point: str, *, read_only: bool) -> None:
        """On the directory. Raises InvalidArgument with the program's words."""
        options = ",".join(["ro" if read_only else "rw", *self._options])
        _run("mount", "-t", self.kind, "-o", options, device, point)

    def clear(self, _device: str, point: str) -> None:
        """Nothing in the new root directory, which looks as any layer's: lost+found is no image's."""
        with suppress(FileNotFoundError):
            os.rmdir(f"{point}/lost+found")
        os.chmod(point, 0o755)

    def grow(self, device: str, point: str) -> None:
        """To the length that the device has now, while mounted. Raises InvalidArgument with the program's words."""
        if self.kind == "ext4":
            _run("resize2fs", device)
        else:
            _run("xfs_growfs", "-d", point)

    def discard(self, device: str) -> None:
        """Forget all that the device has. Raises OSError."""
        fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(fd, _BLKDISCARD, struct.pack("=QQ", 0, size_of(device)))
        finally:
            os.close(fd)


def _run(*command: str) -> None:
    environment = {"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath)}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, env=environment
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise InvalidArgument(f"devmapper: {command[0]}: {said[-1] if said else done.returncode}")

"""The child that fills a new volume: `python -m rorqual.daemon.copyup`, request by stdin.

It has a mount namespace of its own, opens the source beneath the mounted root only, and copies by descriptor, so no
link of the image leads out of it.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
import tempfile
from typing import Any

from rorqual.linux import mount, namespaces, paths

_CLONE_NEWNS = 0x20000
_DEPTH_MAX = 512
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_PIECE_BYTES = 1 << 20


def main() -> None:
    """Read the request, copy."""
    request = json.load(sys.stdin)
    namespaces.unshare(_CLONE_NEWNS)
    mount.set_propagation("/", mount.MS_PRIVATE | mount.MS_REC)
    root = tempfile.mkdtemp(prefix="rorqual-copyup-")
    try:
        _mount(request["mounts"][0], root)
        root_fd = paths.open_root(root)
        try:
            source = paths.open_in_root(root_fd, request["path"], os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            return
        target = os.open(request["volume"], os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        copy_tree(source, target)
    finally:
        mount.umount(root, 2)  # MNT_DETACH
        os.rmdir(root)


def _mount(description: dict[str, Any], root: str) -> None:
    options = description["options"]
    if description["type"] == "bind":
        mount.mount(description["source"], root, None, mount.MS_BIND | mount.MS_REC)
    else:
        data = ",".join(o for o in options if o not in ("rw", "ro"))
        mount.mount(description["source"], root, description["type"], mount.MS_RDONLY, data)


def copy_tree(source: int, target: int) -> None:
    """All below the directory `source` into the directory `target`; hard links and holes stay what they are.

    Raises: OSError.
    """
    _Copy(target).directory(source, target, "", 0)


class _Copy:
    """One copy. The target may be a volume that a running container has too: nothing there is trusted by name."""

    def __init__(self, root: int) -> None:
        self._root = root
        # (device, inode) of a source with several names -> its first name in the target, and its inode there
        self._first: dict[tuple[int, int], tuple[str, tuple[int, int]]] = {}

    def directory(self, source: int, target: int, path: str, depth: int) -> None:
        """What is in `source`; `path` is that of both, with a slash behind it."""
        if depth > _DEPTH_MAX:
            raise OSError(f"directories nested deeper than {_DEPTH_MAX}")
        info = os.fstat(source)
        os.fchown(target, info.st_uid, info.st_gid)
        os.fchmod(target, stat.S_IMODE(info.st_mode))
        for name in os.listdir(source):
            entry = os.stat(name, dir_fd=source, follow_symlinks=False)
            if not stat.S_ISDIR(entry.st_mode):
                self._other(source, target, name, path + name, entry)
                continue
            os.mkdir(name, 0o700, dir_fd=target)
            below = os.open(name, _DIRECTORY, dir_fd=source)
            into = os.open(name, _DIRECTORY, dir_fd=target)
            try:
                self.directory(below, into, f"{path}{name}/", depth + 1)
            finally:
                os.close(below)
                os.close(into)
        os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns))

    def _other(self, source: int, target: int, name: str, path: str, info: os.stat_result) -> None:
        if stat.S_ISREG(info.st_mode):
            if info.st_nlink > 1 and self._link(target, name, info):
                return
            made = _copy_file(source, target, name)
            if info.st_nlink > 1:
                self._first[info.st_dev, info.st_ino] = path, made
        elif stat.S_ISLNK(info.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
            os.chown(name, info.st_uid, info.st_gid, dir_fd=target, follow_symlinks=False)
        else:
            os.mknod(name, info.st_mode, info.st_rdev, dir_fd=target)
            os.chown(name, info.st_uid, info.st_gid, dir_fd=target, follow_symlinks=False)

    def _link(self, target: int, name: str, info: os.stat_result) -> bool:
        """Whether it is another name of what was copied before, and now is there too."""
        path, wanted = self._first.get((info.st_dev, info.st_ino), ("", (0, 0)))
        if not path:
            return False
        try:
            first = paths.open_beneath(self._root, path, os.O_PATH | os.O_NOFOLLOW)
        except OSError:
            return False  # somebody removed it meanwhile
        try:
            found = os.fstat(first)
            if (found.st_dev, found.st_ino) != wanted:
                return False
            os.link(f"/proc/self/fd/{first}", name, dst_dir_fd=target, follow_symlinks=True)
        finally:
            os.close(first)
        return True


def _copy_file(source: int, target: int, name: str) -> tuple[int, int]:
    """The copy's device and inode."""
    read_fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=source)
    write_fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=target)
    with os.fdopen(read_fd, "rb"), os.fdopen(write_fd, "wb"):
        info = os.fstat(read_fd)
        _copy_data(read_fd, write_fd, info.st_size)
        for attribute in os.listxattr(read_fd):
            os.setxattr(write_fd, attribute, os.getxattr(read_fd, attribute))
        os.fchown(write_fd, info.st_uid, info.st_gid)
        os.fchmod(write_fd, stat.S_IMODE(info.st_mode))  # after chown, which clears setuid
        os.utime(write_fd, ns=(info.st_atime_ns, info.st_mtime_ns))
        made = os.fstat(write_fd)
    return made.st_dev, made.st_ino


def _copy_data(read_fd: int, write_fd: int, size: int) -> None:
    """Source: lseek(2), SEEK_DATA; file systems without it say that all is data."""
    os.ftruncate(write_fd, size)
    position = 0
    while position < size:
        try:
            position = os.lseek(read_fd, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # a hole up to the end
                return
            raise
        stop = min(size, os.lseek(read_fd, position, os.SEEK_HOLE))
        os.lseek(write_fd, position, os.SEEK_SET)
        os.lseek(read_fd, position, os.SEEK_SET)
        while position < stop:
            copied = os.sendfile(write_fd, read_fd, None, min(_PIECE_BYTES, stop - position))
            if not copied:
                return
            position += copied


if __name__ == "__main__":
    main()

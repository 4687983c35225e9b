"""The child that fills a new volume: `python -m rorqual.daemon.copyup`, request by stdin.

It has a mount namespace of its own, opens the source beneath the mounted root only, and copies by descriptor, so no
link of the image leads out of it.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
import tempfile
from typing import Any

from rorqual.linux import mount, namespaces, paths

_CLONE_NEWNS = 0x20000
_DEPTH_MAX = 512


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
        _copy_directory(source, target, 0)
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


def _copy_directory(source: int, target: int, depth: int) -> None:
    if depth > _DEPTH_MAX:
        raise OSError(f"directories nested deeper than {_DEPTH_MAX}")
    info = os.fstat(source)
    os.fchown(target, info.st_uid, info.st_gid)
    os.fchmod(target, stat.S_IMODE(info.st_mode))
    for name in os.listdir(source):
        _copy(source, target, name, depth)
    os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns))


def _copy(source: int, target: int, name: str, depth: int) -> None:
    info = os.stat(name, dir_fd=source, follow_symlinks=False)
    mode = info.st_mode
    if stat.S_ISDIR(mode):
        os.mkdir(name, 0o700, dir_fd=target)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=source)
        into = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=target)
        try:
            _copy_directory(below, into, depth + 1)
        finally:
            os.close(below)
            os.close(into)
        return
    if stat.S_ISLNK(mode):
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        os.chown(name, info.st_uid, info.st_gid, dir_fd=target, follow_symlinks=False)
        return
    if stat.S_ISREG(mode):
        _copy_file(source, target, name)
        return
    os.mknod(name, mode, info.st_rdev, dir_fd=target)
    os.chown(name, info.st_uid, info.st_gid, dir_fd=target, follow_symlinks=False)


def _copy_file(source: int, target: int, name: str) -> None:
    read_fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=source)
    write_fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=target)
    with os.fdopen(read_fd, "rb") as reader, os.fdopen(write_fd, "wb") as writer:
        shutil.copyfileobj(reader, writer, 1 << 20)
        writer.flush()
        info = os.fstat(read_fd)
        for attribute in os.listxattr(read_fd):
            os.setxattr(write_fd, attribute, os.getxattr(read_fd, attribute))
        os.fchown(write_fd, info.st_uid, info.st_gid)
        os.fchmod(write_fd, stat.S_IMODE(info.st_mode))  # after chown, which clears setuid
        os.utime(write_fd, ns=(info.st_atime_ns, info.st_mtime_ns))


if __name__ == "__main__":
    main()

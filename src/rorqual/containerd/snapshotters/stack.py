"""A layer that was unpacked without its parent becomes a whole tree: for snapshotters whose snapshots hold everything.

    target (a copy of the parent's tree) + layer (its own files, whiteouts in overlayfs' form) -> target

The layer is only read: a failure leaves it as it was, and the target is the caller's to drop.
"""

from __future__ import annotations

import os
import stat
import subprocess

from rorqual.containerd.metadata.records import Pending
from rorqual.containerd.snapshotters.hardlinks import make_links
from rorqual.containerd.snapshotters.inherit import inherit_directories
from rorqual.errdefs import Internal

_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPAQUE = "trusted.overlay.opaque"


def stack(layer: str, target: str, parent: str, pending: Pending) -> None:
    """Put `layer` on `target`; pending directories look as the `parent`'s do, pending links are made.

    Raises OSError, Internal, InvalidArgument (a link's file is nowhere).
    """
    layer_fd, target_fd = os.open(layer, _DIR), os.open(target, _DIR)
    try:
        marks = _Marks()
        _make_way(layer_fd, target_fd, b"", marks)
        copy_tree(layer, target)
        for name in marks.whiteouts:
            os.unlink(name, dir_fd=target_fd)
        for name, status in marks.merged:
            _look_as(name, status, target_fd)
        for name in marks.opaque:
            fd = os.open(name or b".", _DIR, dir_fd=target_fd)
            try:
                os.removexattr(fd, _OPAQUE)
            finally:
                os.close(fd)
    finally:
        os.close(layer_fd)
        os.close(target_fd)
    inherit_directories(target, [parent], pending.directories)
    make_links(target, pending.links)


def _look_as(name: bytes, status: os.stat_result, target_fd: int) -> None:
    """Mode and times of the layer's: cp keeps special bits of a directory that is there, unlinking changes its time."""
    fd = os.open(name, _DIR, dir_fd=target_fd)
    try:
        os.fchmod(fd, stat.S_IMODE(status.st_mode))
        os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))
    finally:
        os.close(fd)


def copy_tree(source: str, target: str) -> None:
    """All in `source` into `target`, which is there. Raises Internal with cp's words.

    cp knows hard links, sparse files, devices, ACLs, capabilities and reflinks; it follows no link of the source.
    """
    command = ["cp", "-a", "--reflink=auto", "--remove-destination", f"{source}/.", target]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"LC_ALL": "C", "PATH": os.defpath})
    if done.returncode != 0:
        raise Internal(f"snapshot: {done.stderr.strip()}")


class _Marks:
    """Names of the layer, relative to its root, that are overlayfs' marks and not files."""

    def __init__(self) -> None:
        self.whiteouts: list[bytes] = []
        self.opaque: list[bytes] = []
        self.merged: list[tuple[bytes, os.stat_result]] = []  # directories of both; how they are to look


def _make_way(layer: int, target: int, prefix: bytes, marks: _Marks) -> None:
    """Remove from `target` what the layer hides or replaces by something of another type."""
    from rorqual.distribution.unpack import tree  # 0.5 MB with its package, for snapshotters that stack

    if _is_opaque(layer):
        marks.opaque.append(prefix.rstrip(b"/"))
        for name in map(os.fsencode, os.listdir(target)):
            tree.remove(target, name)
    for name in map(os.fsencode, os.listdir(layer)):
        own = os.stat(name, dir_fd=layer, follow_symlinks=False)
        try:
            below: os.stat_result | None = os.stat(name, dir_fd=target, follow_symlinks=False)
        except FileNotFoundError:
            below = None
        is_dir = stat.S_ISDIR(own.st_mode)
        if below is not None and not (is_dir and stat.S_ISDIR(below.st_mode)):
            tree.remove(target, name)
            below = None
        if stat.S_ISCHR(own.st_mode) and own.st_rdev == 0:
            marks.whiteouts.append(prefix + name)
        elif is_dir:
            if below is None:
                os.mkdir(name, 0o700, dir_fd=target)
            marks.merged.append((prefix + name, own))
            _descend(layer, target, name, prefix, marks)


def _descend(layer: int, target: int, name: bytes, prefix: bytes, marks: _Marks) -> None:
    fds = [os.open(name, _DIR, dir_fd=layer)]
    try:
        fds.append(os.open(name, _DIR, dir_fd=target))
        _make_way(fds[0], fds[1], prefix + name + b"/", marks)
    finally:
        for fd in fds:
            os.close(fd)


def _is_opaque(fd: int) -> bool:
    try:
        return os.getxattr(fd, _OPAQUE) == b"y"
    except OSError:
        return False  # no such xattr, or a file system without any

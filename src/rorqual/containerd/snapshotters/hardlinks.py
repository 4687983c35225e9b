"""Hard links of a layer to files of the layers below it, once those are known.

Where the layers stay apart (overlayfs) the file is copied into the layer, as overlayfs itself does when such a link is
made; where a snapshot holds everything, the link is made. Nothing follows a symlink. Source: image-spec layer.md.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence

from rorqual.errdefs import InvalidArgument
from rorqual.linux import paths

_COPY_BYTES = 1 << 30
_OPAQUE = "trusted.overlay.opaque"
_LOOK = os.O_PATH | os.O_NOFOLLOW


def copy_linked(layer: str, parents: Sequence[str], links: Sequence[tuple[str, str]]) -> None:
    """Give `layer` a copy of each link's file, of the uppermost of `parents` that has it.

    A name that is there belongs to a later entry of the layer. Raises InvalidArgument where no parent has the file.
    """
    fds = [paths.open_root(directory) for directory in (layer, *parents)]
    try:
        for name, target in links:
            source = _nearest(fds, target)
            if source is None:
                raise _missing(target)
            try:
                _copy(source, fds[0], name)
            finally:
                os.close(source)
    finally:
        for fd in fds:
            os.close(fd)


def make_links(tree: str, links: Sequence[tuple[str, str]]) -> None:
    """Make each link in a tree that has all files. Raises InvalidArgument where the file is missing."""
    if not links:
        return
    root = paths.open_root(tree)
    try:
        for name, target in links:
            source = _parent(root, target)
            try:
                _link(source, os.path.basename(target), root, name)
            except (FileNotFoundError, PermissionError) as e:  # the latter: a directory
                raise _missing(target) from e
            finally:
                os.close(source)
    finally:
        os.close(root)


def _link(source: int, base: str, root: int, name: str) -> None:
    parent = _parent(root, name)
    try:
        os.link(base, os.path.basename(name), src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
    except FileExistsError:
        return
    finally:
        os.close(parent)


def _missing(target: str) -> InvalidArgument:
    return InvalidArgument(f"hard link to {target!r}, which is in no layer")


def _parent(root: int, path: str) -> int:
    try:
        return paths.open_beneath(root, os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
    except OSError as e:
        if e.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        raise _missing(path) from e


def _nearest(layers: Sequence[int], target: str) -> int | None:
    """An O_PATH fd of the file in the uppermost layer that has it; None when none has, or one hides it."""
    names = target.split("/")
    for layer in layers:
        fd = os.dup(layer)
        hidden = False
        try:
            for name in names:
                hidden |= _is_opaque(fd)
                inner = paths.open_beneath(fd, name, _LOOK)
                os.close(fd)
                fd = inner
        except FileNotFoundError:
            os.close(fd)
            if hidden:
                return None
            continue
        except OSError:
            os.close(fd)
            return None  # a whiteout, a file or a symlink where a directory would be
        info = os.fstat(fd)
        if stat.S_ISREG(info.st_mode):
            return fd
        os.close(fd)
        return None  # a whiteout, or nothing that is copied
    return None


def _is_opaque(fd: int) -> bool:
    try:
        return os.getxattr(f"/proc/self/fd/{fd}", _OPAQUE) == b"y"
    except OSError:
        return False


def _copy(source: int, layer: int, name: str) -> None:
    """Bytes, owner, xattrs, mode and times; in this order, as each takes something of the next away."""
    parent = _parent(layer, name)
    try:
        try:
            target = os.open(
                os.path.basename(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=parent
            )
        except FileExistsError:
            return
    finally:
        os.close(parent)
    reading = -1
    try:
        reading = os.open(f"/proc/self/fd/{source}", os.O_RDONLY)
        info = os.fstat(reading)
        while os.copy_file_range(reading, target, _COPY_BYTES):
            pass
        os.fchown(target, info.st_uid, info.st_gid)
        for key in os.listxattr(reading):
            if not key.startswith("trusted.overlay."):
                os.setxattr(target, key, os.getxattr(reading, key))
        os.fchmod(target, stat.S_IMODE(info.st_mode))
        os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns))
    finally:
        os.close(target)
        if reading >= 0:
            os.close(reading)

"""Whiteouts: how a layer says that something below it is gone, as overlayfs keeps it or done at once.

`.wh.name` hides name of the layers below, `.wh..wh..opq` everything that they have in this directory; what this layer
itself holds is never touched, in whichever order it comes. Source: image-spec layer.md, "Whiteouts"; overlayfs.rst.
"""

from __future__ import annotations

import os
import stat
from typing import Protocol

from rorqual.distribution.unpack import tree
from rorqual.errdefs import InvalidArgument

PREFIX = b".wh."
_META = b".wh..wh."
_OPAQUE = b".wh..wh..opq"
_OVERLAY_OPAQUE = "trusted.overlay.opaque"
_DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Whiteouts(Protocol):
    """What `apply` needs of a kind of whiteouts; `parent` is always an open directory of the layer."""

    def note(self, parent: int, name: bytes) -> None:
        """`name` was made by this layer."""

    def hide(self, parent: int, name: bytes) -> bool:
        """Hides `name` of the layers below. True when something was removed here."""

    def hide_all(self, parent: int) -> bool:
        """Hides all that the layers below have in `parent`. True when something was removed here."""


class Overlay:
    """Kept as overlayfs has them: a 0/0 character device, and an xattr on an opaque directory."""

    def note(self, parent: int, name: bytes) -> None:
        """Nothing: the layer's directory holds this layer only."""

    def hide(self, parent: int, name: bytes) -> bool:
        try:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=parent)
        except FileExistsError:
            # This layer has one of its own, which hides what is below anyway, unless directories would be merged.
            if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                fd = os.open(name, _DIR_FLAGS, dir_fd=parent)
                try:
                    self.hide_all(fd)
                finally:
                    os.close(fd)
        return False

    def hide_all(self, parent: int) -> bool:
        os.setxattr(parent, _OVERLAY_OPAQUE, b"y")
        return False


class Plain:
    """Done at once: the directory holds the layers below as well."""

    def __init__(self) -> None:
        # (inode of the directory, name): one file system, and nothing made here is removed behind our back.
        self._own: set[tuple[int, bytes]] = set()

    def note(self, parent: int, name: bytes) -> None:
        self._own.add((os.fstat(parent).st_ino, name))

    def hide(self, parent: int, name: bytes) -> bool:
        if (os.fstat(parent).st_ino, name) not in self._own:
            try:
                tree.remove(parent, name)
            except FileNotFoundError:
                return False
            return True
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            return False
        fd = os.open(name, _DIR_FLAGS, dir_fd=parent)
        try:
            return self.hide_all(fd)
        finally:
            os.close(fd)

    def hide_all(self, parent: int) -> bool:
        inode = os.fstat(parent).st_ino
        removed = False
        for child in map(os.fsencode, os.listdir(parent)):
            if (inode, child) not in self._own:
                tree.remove(parent, child)
                removed = True
        return removed


class Literal:
    """No layer: nothing is hidden."""

    def note(self, parent: int, name: bytes) -> None:
        """Nothing."""

    def hide(self, parent: int, name: bytes) -> bool:
        return False

    def hide_all(self, parent: int) -> bool:
        return False


def convert(kind: Whiteouts, parent: int, base: bytes) -> bool:
    """Does what the whiteout `base` in `parent` says. True when something was removed here.

    Raises: InvalidArgument for a whiteout that names its own directory or the one above (`.wh..`, `.wh...`).
    """
    if base == _OPAQUE:
        return kind.hide_all(parent)
    if base.startswith(_META):
        # AUFS's own bookkeeping (.wh..wh.plnk, .wh..wh.orph): means nothing elsewhere.
        return False
    name = base[len(PREFIX) :]
    if name in (b"", b".", b".."):
        raise InvalidArgument("invalid whiteout name")
    return kind.hide(parent, name)

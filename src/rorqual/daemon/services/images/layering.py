"""Where a container's own files are, by the mounts of its snapshot.

    stacked   a directory of its own over those of its image (overlayfs): what is in it is what changed
    whole     all files in one tree, to be compared with the image's (vfs, btrfs, devicemapper, fuse-overlayfs)

What the runtime has put there is no change: the rules that a comparison needs for that are made here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack

from rorqual.daemon.remote import Mount
from rorqual.daemon.services.images import initlayer
from rorqual.distribution.pack.compare import Rules


def stacked(mounts: Sequence[Mount]) -> tuple[str, list[str]] | None:
    """The container's own directory and those below it, the uppermost first; None when they are not apart."""
    if len(mounts) != 1:
        return None
    (mount,) = mounts
    if mount.type == "overlay":
        options = dict(option.partition("=")[::2] for option in mount.options)
        if "upperdir" in options:
            return options["upperdir"], [lower for lower in options.get("lowerdir", "").split(":") if lower]
    if mount.type == "bind" and "/snapshots/overlayfs/" in mount.source:
        return mount.source, []  # an image without layers: all that is there is the container's
    return None


def whole(parent: Sequence[Mount], own: Sequence[Mount]) -> tuple[str | None, str] | None:
    """(the image's tree, None without one; the container's); None when they cannot be reached as directories."""
    if [mount.type for mount in own] != ["bind"] or any(mount.type != "bind" for mount in parent) or len(parent) > 1:
        return None
    return (parent[0].source if parent else None), own[0].source


def rules(before: int | None, after: int) -> Rules:
    """Of a comparison of whole trees. The fds stay the caller's, and open."""
    skip = initlayer.skipper(after, [before] if before is not None else [])
    return Rules(skip=skip, timeless=initlayer.DIRECTORIES)


def opened(path: str, stack: ExitStack) -> int:
    """An fd of the tree's root, closed with the stack."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    stack.callback(os.close, fd)
    return fd

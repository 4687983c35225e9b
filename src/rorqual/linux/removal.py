"""Removing a directory tree that somebody hostile made: however deep it is, with two open directories and no recursion.

`shutil.rmtree` keeps a frame and an fd for each level: a thousand nested directories, which a container can make with
a loop, are more than either, and the tree could never be removed. Here a directory that is not empty is moved up to
the top before it is looked into, so that nothing is ever more than one level down. No link is followed.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: str | bytes, *, dir_fd: int | None = None) -> None:
    """Remove the directory `path` (below `dir_fd`) with all that is in it.

    Raises: FileNotFoundError when it is not there; OSError for what cannot be removed (a mount point, an immutable
    file), with the rest gone or moved up.
    """
    top = os.open(path, _DIRECTORY, dir_fd=dir_fd)
    try:
        moved = f".rm-{secrets.token_hex(8)}-"  # a name that the tree cannot have
        serial = 0
        waiting = [name for name in os.listdir(top) if not _remove(top, name)]
        while waiting:
            name = waiting.pop()
            inner = os.open(name, _DIRECTORY, dir_fd=top)
            try:
                for child in os.listdir(inner):
                    if not _remove(inner, child):
                        serial += 1
                        os.rename(child, f"{moved}{serial}", src_dir_fd=inner, dst_dir_fd=top)
                        waiting.append(f"{moved}{serial}")
            finally:
                os.close(inner)
            os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(path, dir_fd=dir_fd)


def _remove(directory: int, name: str) -> bool:
    """Whether the entry is gone; a directory that is not empty stays."""
    try:
        os.unlink(name, dir_fd=directory)
        return True
    except IsADirectoryError:
        pass
    except PermissionError:  # POSIX's answer for a directory, which some file systems give
        if not _is_directory(directory, name):
            raise
    try:
        os.rmdir(name, dir_fd=directory)
    except OSError as e:
        if e.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def _is_directory(directory: int, name: str) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)

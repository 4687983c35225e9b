"""tmpcopyup: a tmpfs that starts with what the image has at its mount point. Works on fds only, follows no symlink."""

import os
import stat

from rorqual.linux import mount

_CHUNK = 1 << 20


def mount_with_contents(target_fd: int, attributes: int, data: str | None, label: str = "") -> None:
    """Mount a tmpfs with MOUNT_ATTR_* over `target_fd`, filled with a copy of the directory that it covers.

    `label`: SELinux's, of all files in it.

    The old directory stays reachable through `target_fd`, which pins what lies below the new mount.
    """
    options = tuple(
        (key, value if separator else None)
        for key, separator, value in (part.partition("=") for part in (data or "").split(",") if part)
    )
    if label:
        options = (*options, ("context", label))
    fresh = mount.new_filesystem("tmpfs", options, attributes)
    try:
        source = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=target_fd)
        try:
            _copy_directory(source, fresh)
        finally:
            os.close(source)
        mount.attach(fresh, target_fd)
    finally:
        os.close(fresh)


def _copy_directory(source_fd: int, target_fd: int) -> None:
    for name in os.listdir(source_fd):
        status = os.stat(name, dir_fd=source_fd, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            _copy_subdirectory(source_fd, target_fd, name)
        elif stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=source_fd), name, dir_fd=target_fd)
        elif stat.S_ISREG(status.st_mode):
            _copy_file(source_fd, target_fd, name)
        else:
            os.mknod(name, status.st_mode, status.st_rdev, dir_fd=target_fd)
        _copy_attributes(target_fd, name, status)


def _copy_subdirectory(source_fd: int, target_fd: int, name: str) -> None:
    os.mkdir(name, 0o700, dir_fd=target_fd)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    inner_source = os.open(name, flags, dir_fd=source_fd)
    try:
        inner_target = os.open(name, flags, dir_fd=target_fd)
        try:
            _copy_directory(inner_source, inner_target)
        finally:
            os.close(inner_target)
    finally:
        os.close(inner_source)


def _copy_file(source_fd: int, target_fd: int, name: str) -> None:
    source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source_fd)
    try:
        target = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target_fd)
        try:
            while os.sendfile(target, source, None, _CHUNK):
                pass
        finally:
            os.close(target)
    finally:
        os.close(source)


def _copy_attributes(target_fd: int, name: str, status: os.stat_result) -> None:
    os.chown(name, status.st_uid, status.st_gid, dir_fd=target_fd, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=target_fd)
    os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=target_fd, follow_symlinks=False)

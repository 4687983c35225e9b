"""What a container's control group can do, on either version: the contract of v1.Group and v2.Group.

`create` makes the directories and sets the limits (the owner then calls `destroy` on any failure); `join_fds` are open
files into which a process writes `0` to move itself there (v1: `tasks`, which spares the kernel a system-wide wait that
moving another process costs). `open_clone_fd` is the directory that a clone can put its child into (v2), None on v1.
`joinable` is the group for a further process of the container whose init is `pid`.
`details` are figures that only `events` tells.
`planned` is what `create` or `update` would write. `unified` is the directory on cgroup v2, "" on v1. `kill` ends all
processes at once and is false where the kernel offers no such thing.
`destroy` removes the groups and may be called twice. With `end` it kills what is still in them; without, processes that
are none of the container's (several may share a cgroupsPath) keep theirs, and the directories that are left are told.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress

from rorqual import errdefs
from rorqual.linux import process
from rorqual.oci.runtime import Resources
from rorqual.runc.cgroups.settings import Writes
from rorqual.runc.cgroups.stats import Details, Stats

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from typing import Protocol
else:
    import _signal as signal

    Protocol = object


class Group(Protocol):
    def create(self, resources: Resources) -> None: ...
    def update(self, resources: Resources) -> None: ...
    def planned(self, resources: Resources) -> Writes: ...
    def directories(self) -> dict[str, str]: ...
    def open_join_fds(self) -> list[int]: ...
    def open_clone_fd(self) -> int | None: ...
    def mount_sources(self) -> dict[str, str]: ...
    def mount_options(self) -> dict[str, str]: ...
    def unified(self) -> str: ...
    def joinable(self, pid: int) -> Group: ...
    def kill(self) -> bool: ...
    def pids(self) -> list[int]: ...
    def freeze(self) -> None: ...
    def thaw(self) -> None: ...
    def is_frozen(self) -> bool: ...
    def stats(self) -> Stats: ...
    def details(self) -> Details: ...
    def oom_watch(self) -> int | None: ...
    def oom_kills(self) -> int: ...
    def destroy(self, *, end: bool) -> list[str]: ...


def write(directory: str, writes: Writes) -> None:
    """Perform them. Raises: errdefs.Error with file, value and the kernel's reason."""
    for item in writes:
        path = f"{directory}/{item.file}"
        try:
            write_file(path, item.value)
        except FileNotFoundError as e:
            if not item.optional:
                raise errdefs.InvalidArgument(f"cannot set {item.file} to {item.value}: no such file") from e
        except OSError as e:
            reason = (e.strerror or "").lower()
            raise errdefs.InvalidArgument(f"failed to write {item.value!r} to {path}: {reason}") from e


def write_file(path: str, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def read_file(path: str, size: int = 65536) -> str:
    """The whole small file, without the trailing newline."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = bytearray()
        while chunk := os.read(fd, size):
            data += chunk
            if len(chunk) < size // 2:
                break
    finally:
        os.close(fd)
    return data.decode(errors="replace").strip()


def read_number(path: str) -> int | None:
    """The file's number; None when there is no such file or it says `max`."""
    try:
        text = read_file(path)
    except OSError:
        return None
    return int(text) if text.lstrip("-").isdigit() else None


def flat(path: str) -> dict[str, int]:
    """A file of `name number` lines; empty when it isn't there."""
    try:
        text = read_file(path)
    except OSError:
        return {}
    pairs = (line.partition(" ") for line in text.splitlines())
    return {key: int(value) for key, _, value in pairs if value.isdigit()}


def make_directories(mountpoint: str, path: str) -> Iterator[str]:
    """Make `path` below `mountpoint` level by level, giving each directory that was made, from the top."""
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        return
    except FileNotFoundError:
        parent = os.path.dirname(path)
        if len(parent) < len(mountpoint):
            raise
        yield from make_directories(mountpoint, parent)
        with suppress(FileExistsError):
            os.mkdir(path, 0o755)
    yield path


def tree(directory: str) -> list[str]:
    """The group and all groups below it, the deepest first."""
    found: list[str] = []
    try:
        entries = list(os.scandir(directory))
    except FileNotFoundError:
        return []
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            found += tree(entry.path)
    return [*found, directory]


def pids_below(directory: str, file: str = "cgroup.procs") -> list[int]:
    found: set[int] = set()
    for group in tree(directory):
        with suppress(FileNotFoundError, OSError):
            found.update(int(pid) for pid in read_file(f"{group}/{file}").split())
    return sorted(found)


_REMOVE_TIMEOUT_S = 10.0
_STAYING_S = 0.5  # what ends with a pid namespace above its own has been sent its SIGKILL, and does not run that long


def remove(directories: Iterable[str], *, end: bool) -> list[str]:
    """Remove the groups with all below them; those that are left. `end`: kill what still runs there.

    Without `end` it is left to those who go on running there: whoever is on the way out is waited for.
    Raises: errdefs.Conflict when a group stays busy (a process that the kernel can't end now).
    """
    waiting = list(directories)
    start = time.monotonic()
    delay = 0.0005
    while waiting := [directory for directory in waiting if not _try_remove(directory)]:
        pids = {pid for directory in waiting for pid in pids_below(directory)}
        passed = time.monotonic() - start
        if not end and passed > _STAYING_S and any(process.runs(pid) for pid in pids):
            break
        if passed > _REMOVE_TIMEOUT_S:
            raise errdefs.Conflict(f"unable to remove cgroup {waiting[0]}: device or resource busy")
        for pid in pids if end else ():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(delay)
        delay = min(delay * 2, 0.05)
    return waiting


def _try_remove(directory: str) -> bool:
    try:
        os.rmdir(directory)
        return True
    except FileNotFoundError:
        return True
    except OSError:
        pass  # EBUSY: groups below it, or processes still on their way out
    for group in tree(directory):
        try:
            os.rmdir(group)
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True

"""The caller's side: clone into the namespaces, follow the handshake, reap what fails.

The caller must be single-threaded. It becomes the parent of init and of execs, whatever their pid namespace: to put a
child into an existing one, the caller's own "pid namespace for children" is switched for the moment of the clone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from rorqual.linux import namespaces, process
from rorqual.runc.errors import StartError
from rorqual.runc.process import child, sync

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from typing import NoReturn
else:
    import _signal as signal


@contextmanager
def pid_namespace_for_children(fd: int | None) -> Iterator[None]:
    """Children cloned inside belong to the pid namespace `fd` (or of the process that the pidfd means)."""
    if fd is None:
        yield
        return
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        namespaces.setns(fd, namespaces.CLONE_NEWPID)
        try:
            yield
        finally:
            namespaces.setns(own, namespaces.CLONE_NEWPID)
    finally:
        os.close(own)


def spawn(
    end: sync.End,
    action: Callable[[], NoReturn],
    *,
    flags: int,
    pid_namespace: int | None = None,
    cgroup_fd: int | None = None,
) -> int:
    """The pid of a new child that performs `action` and reports over `end`, the child's end. Raises: OSError."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        with pid_namespace_for_children(pid_namespace):
            pid = process.clone(flags, cgroup_fd=cgroup_fd)
            if pid == 0:
                child.run(end, action)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def spawn_into(
    end: sync.End,
    action: Callable[[list[int]], NoReturn],
    *,
    group_fd: int | None,
    join_fds: list[int],
    flags: int,
    pid_namespace: int | None = None,
) -> int:
    """As `spawn`, for a process of control groups; `action` gets the fds through which it must still join them.

    On cgroup v2 the clone itself puts the child into the directory `group_fd`: moving a process that exists stops every
    fork of the machine until all processors have passed a quiet state, 12 ms as a rule. Where the kernel refuses that
    (a group that is full, or not this user's) the child moves itself, whatever the errno: a real fault shows again.
    """
    if group_fd is not None:
        with suppress(OSError):
            return spawn(end, lambda: action([]), flags=flags, pid_namespace=pid_namespace, cgroup_fd=group_fd)
    return spawn(end, lambda: action(join_fds), flags=flags, pid_namespace=pid_namespace)


def spawn_beyond(end: sync.End, action: Callable[[], NoReturn], *, pidfd: int, user_namespace: int) -> int:
    """As spawn, into the pid namespace of `pidfd`'s process, through its user namespace (CLONE_NEWUSER or 0), by a
    child that joins both and then clones a sibling: `action` runs in that one, this process's child too.

    Raises: StartError.
    """
    read, write = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            helper = spawn(end, lambda: _clone_sibling(end, action, pidfd, write, user_namespace), flags=0)
        finally:
            os.close(write)
        pid = os.read(read, 16)
        os.waitpid(helper, 0)
    finally:
        os.close(read)
    if not pid:
        raise StartError("unable to start container process: error joining the container's user and pid namespaces")
    return int(pid)


def _clone_sibling(
    end: sync.End, action: Callable[[], NoReturn], pidfd: int, write: int, user_namespace: int
) -> NoReturn:
    if user_namespace:
        namespaces.setns(pidfd, namespaces.CLONE_NEWUSER)
    namespaces.setns(pidfd, namespaces.CLONE_NEWPID)
    pid = process.clone(process.CLONE_PARENT)
    if pid == 0:
        os.close(write)
        child.run(end, action)
    os.write(write, b"%d" % pid)
    os._exit(0)


def follow(
    end: sync.End,
    *,
    on_hooks: Callable[[], None],
    on_notify: Callable[[int], None],
) -> tuple[int | None, list[str]]:
    """Wait until the child is ready: the terminal's master, when it sent one, and its warnings.

    Raises: StartError with the child's own reason.
    """
    while True:
        message = sync.receive(end)
        if message is None:
            raise StartError("unable to start container process: it ended before it was ready")
        if message.type == sync.READY:
            return message.fd, message.body.get("warnings", [])
        if message.type == sync.ERROR:
            raise sync.error_of(message)
        if message.type == sync.HOOKS:
            on_hooks()
            sync.send(end, sync.GO)
        elif message.type == sync.NOTIFY and message.fd is not None:
            on_notify(message.fd)


def until_exec(end: sync.End) -> None:
    """Wait until the ready child has become the user's program. Raises: StartError when it could not."""
    message = sync.receive(end)
    if message is not None and message.type == sync.ERROR:
        raise sync.error_of(message)


def reap(pid: int) -> None:
    """End a child that failed, and collect it."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)

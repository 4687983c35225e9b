"""ID mappings of user namespaces: written for a child, or made into a namespace fd for an ID-mapped mount.

Source: user_namespaces(7), newuidmap(1).
"""

import os
from collections.abc import Sequence

from rorqual import errdefs
from rorqual.linux import namespaces, process
from rorqual.oci.runtime import IDMapping
from rorqual.runc.errors import reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal

Mappings = Sequence[IDMapping]


def write(pid: int, uids: Mappings, gids: Mappings) -> None:
    """Map IDs of the process in its fresh user namespace. Raises: PermissionDenied, InvalidArgument."""
    if os.geteuid() == 0:
        _write(f"/proc/{pid}/gid_map", _lines(gids))
        _write(f"/proc/{pid}/uid_map", _lines(uids))
        return
    if _is_own(uids, os.geteuid()) and _is_own(gids, os.getegid()):
        # An unprivileged user may map only itself, and gives up setgroups for it.
        _write(f"/proc/{pid}/setgroups", "deny")
        _write(f"/proc/{pid}/gid_map", _lines(gids))
        _write(f"/proc/{pid}/uid_map", _lines(uids))
        return
    _run_helper("newgidmap", pid, gids)
    _run_helper("newuidmap", pid, uids)


def _is_own(mappings: Mappings, own: int) -> bool:
    return len(mappings) == 1 and mappings[0].size == 1 and mappings[0].host_id == own


def _lines(mappings: Mappings) -> str:
    return "".join(f"{m.container_id} {m.host_id} {m.size}\n" for m in mappings)


def _write(path: str, text: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as e:
        raise errdefs.InvalidArgument(f"failed to write {text.strip()!r} to {path}: {reason(e)}") from e


def _run_helper(name: str, pid: int, mappings: Mappings) -> None:
    """The set-user-ID programs that know which ranges /etc/subuid gives this user."""
    path = next((p for p in (f"/usr/bin/{name}", f"/bin/{name}") if os.access(p, os.X_OK)), None)
    if path is None:
        raise errdefs.PermissionDenied(
            f"mapping more than one ID needs {name} (package uidmap), which is not installed"
        )
    numbers = [str(n) for m in mappings for n in (m.container_id, m.host_id, m.size)]
    child = os.posix_spawn(path, [name, str(pid), *numbers], os.environ)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        raise errdefs.PermissionDenied(
            f"{name} refused the mappings (exit status {status}): see /etc/subuid, /etc/subgid"
        )


def namespace_fd(uids: Mappings, gids: Mappings) -> int:
    """A user namespace with these mappings, kept alive by the fd alone: what an ID-mapped mount is translated by."""
    pid = process.clone(namespaces.CLONE_NEWUSER)
    if pid == 0:
        while True:
            signal.pause()
    try:
        write(pid, uids, gids)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

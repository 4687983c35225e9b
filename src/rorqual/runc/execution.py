"""One exec: a further process in a container's namespaces and groups."""

from __future__ import annotations

import os
from collections.abc import Callable

from rorqual import errdefs
from rorqual.linux import namespaces
from rorqual.oci.runtime import Linux, Process, Seccomp, Spec
from rorqual.record import replace
from rorqual.runc import hooks, planning, seccomp, state
from rorqual.runc.cgroups import locate
from rorqual.runc.process import child, parent, scheduling, sync
from rorqual.runc.process.child import Stdio
from rorqual.runc.state import Directory, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def _spawn(
    end: sync.End,
    pidfd: int,
    flags: int,
    group_fd: int | None,
    join_fds: list[int],
    action: Callable[[int, list[int]], NoReturn],
) -> int:
    """`action` gets the namespaces that its process is already in, and the fds to join its groups."""
    own_pids = bool(flags & namespaces.CLONE_NEWPID)
    if own_pids and (os.geteuid() != 0 or not namespaces.in_initial_user_namespace()):
        # Joining the pid namespace, and coming back, takes privilege: an ordinary user has it in the container's user
        # namespace only, and root of another one has it over the container's pid namespace but not over its own.
        joined = flags & namespaces.CLONE_NEWUSER
        return parent.spawn_beyond(end, lambda: action(joined, join_fds), pidfd=pidfd, user_namespace=joined)
    return parent.spawn_into(
        end,
        lambda fds: action(0, fds),
        group_fd=group_fd,
        join_fds=join_fds,
        flags=0,
        pid_namespace=pidfd if own_pids else None,
    )


def _send_listener(made: Record, profile: Seccomp | None, fd: int, pid: int) -> None:
    assert profile is not None
    running = hooks.State(made.oci_version, made.id, state.RUNNING, made.pid, made.bundle, made.annotations)
    seccomp.send_listener(profile, fd, pid, running.to_json())


def _sub_groups(groups: dict[str, str], chosen: dict[str, str]) -> dict[str, str]:
    """The container's groups with those replaced that an exec is to be below. Raises: InvalidArgument."""
    for path in chosen.values():
        if ".." in path.split("/"):
            raise errdefs.InvalidArgument(f"bad sub cgroup path: {path}")
    everywhere = chosen.get("", "")
    return {c: os.path.normpath(f"{d}/{chosen.get(c, everywhere)}") for c, d in groups.items()} if chosen else groups


def execute(
    made: Record,
    directory: Directory,
    document: Process,
    *,
    stdio: Stdio | None,
    preserve_fds: int,
    sub_groups: dict[str, str],
) -> tuple[int, int | None]:
    """Start it in the container: its pid and the terminal's master. Returns once it has exec'd.

    `sub_groups`: controller ("" for all) -> an existing group below the container's. Raises: StartError and its kinds,
    OSError when the container is gone.
    """
    groups = _sub_groups(made.groups, sub_groups)
    container_spec = Spec.from_json(directory.read_config())
    linux = container_spec.linux or Linux()
    defaults = container_spec.process
    if document.capabilities is None and defaults is not None:
        document = replace(document, capabilities=defaults.capabilities)
    if document.exec_cpu_affinity is None and defaults is not None:
        document = replace(document, exec_cpu_affinity=defaults.exec_cpu_affinity)
    plan = planning.process_plan(
        document,
        container_id=made.id,
        seccomp=linux.seccomp,
        cache_dir=f"{directory.root}/.seccomp",
        personality=scheduling.personality(linux.personality),
        preserve_fds=preserve_fds,
        new_keyring=False,
        user_namespace=bool(made.namespaces & namespaces.CLONE_NEWUSER),
    )
    pidfd = os.pidfd_open(made.pid)
    fds = [pidfd]
    try:
        if not state.is_alive(made.pid, made.start_time):
            # Opened first, then compared: a pid that was used again must not lead into somebody else's namespaces.
            raise ProcessLookupError(3, os.strerror(3))
        flags = made.namespaces
        group = locate.existing(groups).joinable(made.pid)
        join_fds = group.open_join_fds()
        fds += join_fds
        group_fd = group.open_clone_fd()
        if group_fd is not None:
            fds.append(group_fd)
        ours, theirs = sync.pair()
        with ours:
            with theirs:
                pid = _spawn(
                    theirs,
                    pidfd,
                    flags,
                    group_fd,
                    join_fds,
                    lambda joined, joins: child.execute(
                        plan, theirs, pidfd, flags & ~namespaces.CLONE_NEWPID, joins, stdio, joined=joined
                    ),
                )
            try:
                console, _ = parent.follow(
                    ours,
                    on_hooks=lambda: None,
                    on_notify=lambda fd: _send_listener(made, linux.seccomp, fd, pid),
                )
                parent.until_exec(ours)
            except BaseException:
                parent.reap(pid)
                raise
    finally:
        for fd in fds:
            os.close(fd)
    return pid, console

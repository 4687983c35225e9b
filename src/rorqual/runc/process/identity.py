"""From root with everything to the user's process: limits, session, seccomp, capabilities, IDs, execve.

Runs in the child after it has entered the rootfs: no import, no codec, no name service from here on.
"""

from __future__ import annotations

import errno
import os
import resource
import stat
from contextlib import suppress

from rorqual.linux import capabilities, paths, process, pty, seccomp
from rorqual.runc.errors import Refusal, reason
from rorqual.runc.process import lookup
from rorqual.runc.process.plan import CapabilitySets, ProcessPlan, SeccompPlan
from rorqual.runc.process.users import Identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object


def set_limits(plan: ProcessPlan, warnings: list[str]) -> None:
    """Rlimits; raising a hard limit without CAP_SYS_RESOURCE is a warning, as far as it goes the limit is set."""
    for number, soft, hard in plan.rlimits:
        try:
            resource.setrlimit(number, (soft, hard))
        except (ValueError, PermissionError, OSError) as e:
            _, present = resource.getrlimit(number)
            cap = present if present != resource.RLIM_INFINITY else hard
            warnings.append(f"rlimit {number} cannot be raised to {hard} ({e}): left at {cap}")
            with suppress(ValueError, OSError):
                resource.setrlimit(number, (min(_unsigned(soft), _unsigned(cap)), present))


def _unsigned(value: int) -> int:
    return value if value >= 0 else resource.RLIM_INFINITY & (1 << 63) - 1


def write_oom_score(value: int, warnings: list[str]) -> None:
    """Through the host's /proc, before the rootfs is entered. Lowering it needs CAP_SYS_RESOURCE: else a warning."""
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, b"%d" % value)
        finally:
            os.close(fd)
    except OSError as e:
        if e.errno not in (errno.EACCES, errno.EPERM):
            raise Refusal(f"failed to set oom_score_adj: {reason(e)}") from e
        warnings.append(f"oom_score_adj cannot be set to {value}: {reason(e)}")


def own_session(slave: int | None) -> None:
    """A session of its own; with the terminal as its controlling one and as stdin, stdout and stderr."""
    os.setsid()
    if slave is not None:
        pty.make_controlling(slave)
        for fd in range(3):
            os.dup2(slave, fd)
        os.close(slave)


def reopen_null() -> None:
    """Where stdio is the host's /dev/null, make it the container's own, which must be that device too."""
    replacement = -1
    for fd in range(3):
        try:
            if not paths.is_null_device(fd):
                continue
        except OSError:
            continue  # closed by the caller: stays so
        if replacement < 0:
            try:
                replacement = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
            except OSError:
                return  # an image without /dev
            if not paths.is_null_device(replacement):
                os.close(replacement)
                raise Refusal("container's /dev/null is invalid")
            os.set_blocking(replacement, True)
        os.dup2(replacement, fd)
    if replacement >= 0:
        os.close(replacement)


def become(plan: ProcessPlan, identity: Identity, notify: Notify) -> bytes:
    """Everything up to execve: the path to execute. Raises: Refusal.

    Without no_new_privs the seccomp filter needs CAP_SYS_ADMIN, so it is loaded before capabilities are dropped, and
    the profile must allow what follows, which is as little as can be; with it, it is loaded last.
    """
    os.umask(plan.umask)
    sets = plan.capabilities
    try:
        if plan.no_new_privileges:
            process.prctl(process.PR_SET_NO_NEW_PRIVS, 1)
        if sets is not None:
            capabilities.bound_to(sets.bounding)
        entered = _enter_cwd(plan.cwd)
        _give_stdio(identity)
        if not plan.no_new_privileges and plan.seccomp is not None:
            _load(plan.seccomp, notify)
        _set_ids(identity, keep=sets is not None)
        if not entered and not _enter_cwd(plan.cwd):
            raise Refusal(f'chdir to cwd ("{plan.cwd}") set in config.json failed: permission denied')
        if sets is not None:
            _set_capabilities(sets)
    except OSError as e:
        raise Refusal(f"unable to become the user: {reason(e)}") from e
    path = lookup.find(os.fsdecode(plan.arguments[0]), plan.search_path)
    if plan.no_new_privileges and plan.seccomp is not None:
        _load(plan.seccomp, notify)
    return os.fsencode(path)


class Notify(Protocol):
    """Where a seccomp listener's fd goes: the parent sends it on to the agent."""

    def listener(self, fd: int) -> None:
        """Takes the fd over."""


def _load(plan: SeccompPlan, notify: Notify) -> None:
    try:
        fd = seccomp.load(plan.program, plan.flags)
    except OSError as e:
        raise Refusal(f"unable to init seccomp: error loading seccomp filter: {reason(e)}") from e
    if plan.flags & seccomp.FLAG_NEW_LISTENER:
        notify.listener(fd)


def _set_ids(identity: Identity, *, keep: bool) -> None:
    if keep:
        process.prctl(process.PR_SET_KEEPCAPS, 1)
    try:
        os.setgroups(identity.groups)
    except PermissionError:
        # "deny" in /proc/self/setgroups (rootless): the groups can't be changed, so only an empty list is honoured
        if identity.groups:
            raise
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)
    if keep:
        process.prctl(process.PR_SET_KEEPCAPS, 0)


def _set_capabilities(sets: CapabilitySets) -> None:
    capabilities.set_all(sets.effective, sets.permitted, sets.inheritable)
    capabilities.set_ambient(sets.ambient)


def _give_stdio(identity: Identity) -> None:
    """The user must be able to reopen /dev/stdout: pipes and terminals made by root are handed over."""
    for fd in range(3):
        try:
            status = os.fstat(fd)
        except OSError:
            continue
        if status.st_uid == identity.uid or paths.is_null_device(fd):
            continue
        kind = stat.S_IFMT(status.st_mode)
        if kind not in (stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFREG):
            continue
        try:
            os.fchown(fd, identity.uid, status.st_gid)
        except OSError as e:
            if e.errno not in (errno.EINVAL, errno.EPERM, errno.EROFS):
                raise


# --- the working directory ------------------------------------------------------------------------------------------


def make_cwd(root_fd: int, cwd: str) -> None:
    """The image may lack it: made as root, 0755, before the root becomes read-only. `root_fd` is the rootfs."""
    try:
        os.close(paths.mkdir_all_in_root(root_fd, cwd))
    except OSError as e:
        raise Refusal(f"mkdir {cwd}: {reason(e)}") from e


def _enter_cwd(cwd: str) -> bool:
    """False when it isn't permitted. Root tries first, who can enter what the user may not search; then the user, who
    alone may enter a FUSE mount of theirs."""
    try:
        os.chdir(cwd)
    except PermissionError:
        return False
    except OSError as e:
        raise Refusal(f'chdir to cwd ("{cwd}") set in config.json failed: {reason(e)}') from e
    _check_cwd(cwd)
    return True


def _check_cwd(cwd: str) -> None:
    """CVE-2024-21626: a directory outside of the root (reached through a leaked fd) has no path here."""
    try:
        inside = os.getcwd().startswith("/")
    except FileNotFoundError:
        inside = False
    if not inside:
        text = "current working directory is outside of container mount namespace root"
        raise Refusal(f"{text} -- possible container breakout detected: cwd {cwd}")

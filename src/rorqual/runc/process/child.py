"""What init and execs do between clone and execve. Nothing here returns; every failure goes to the parent as text.

The process is a raw fork of the caller. It imports nothing, starts no thread and allocates little; what it needs was
decided by the parent and lies in the plan.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from contextlib import suppress

from rorqual.linux import namespaces, paths, process
from rorqual.record import replace
from rorqual.runc import hooks
from rorqual.runc.errors import Refusal, StartError, reason
from rorqual.runc.process import identity, labels, scheduling, sync, users
from rorqual.runc.process.plan import InitPlan, ProcessPlan
from rorqual.runc.rootfs import prepare

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from typing import NoReturn
else:
    import _signal as signal

Stdio = tuple[int, int, int]

# Of these faulthandler may have handlers that Python does not know: under a seccomp profile that denies what they do,
# such a handler returns, to the fault, without end.
_FATAL = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT)


def run(end: sync.End, action: Callable[[], NoReturn]) -> NoReturn:
    """Perform `action`; whatever it raises is told to the parent."""
    status = 1
    try:
        gc.disable()
        action()
    except Refusal as e:
        _report(end, e)
    except OSError as e:
        name = f" {os.fsdecode(e.filename)}" if e.filename else ""
        _report(end, Refusal(f"{_shown(e)}{name}: {reason(e)}" if name else reason(e)))
    except BaseException as e:
        _report(end, Refusal(f"{type(e).__name__}: {e}"))
    finally:
        os._exit(status)


def _shown(error: OSError) -> str:
    return type(error).__name__


def _report(end: sync.End, error: Refusal) -> None:
    with suppress(OSError):  # the parent is gone: nobody to tell
        sync.send_error(end, error)


def isolate(end: sync.End, keep: frozenset[int], stdio: Stdio | None, preserve_fds: int) -> None:
    """Before anything else: no fd of the caller's, no signal handler, ends with the parent."""
    process.prctl(process.PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in range(1, signal.NSIG):
        handled = signal.getsignal(number) not in (
            signal.SIG_DFL,
            None,
        )  # None: libc's own, and those nobody can change
        if handled or number in _FATAL:
            signal.signal(number, signal.SIG_DFL)
    if stdio is not None:
        place(stdio)
    process.close_from(3, keep | {end.fileno()} | frozenset(range(3, 3 + preserve_fds)))
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def place(stdio: Stdio) -> None:
    """stdio's fds to 0, 1 and 2 of this process, in whatever order they come."""
    high = [os.dup(fd) if fd < 3 else fd for fd in stdio]
    while any(fd < 3 for fd in high):
        high = [os.dup(fd) if fd < 3 else fd for fd in high]
    for number, fd in enumerate(high):
        os.dup2(fd, number)


def join_groups(fds: list[int]) -> None:
    """This process into the container's control groups; the fds are closed."""
    for fd in fds:
        os.write(fd, b"0")
        os.close(fd)


class _Listener(identity.Notify):
    def __init__(self, end: sync.End) -> None:
        self._end = end

    def listener(self, fd: int) -> None:
        sync.send(self._end, sync.NOTIFY, fd)
        os.close(fd)


def init(plan: InitPlan, end: sync.End, fifo: int, join_fds: list[int], stdio: Stdio | None) -> NoReturn:
    """The container's first process."""
    kept = {fifo, *join_fds, *(fd for fd, _ in plan.joins)}
    kept.update(entry.tree for entry in plan.rootfs.entries if entry.tree is not None)
    if plan.rootfs.tree is not None:
        kept.add(plan.rootfs.tree)
    isolate(end, frozenset(kept), stdio, plan.process.preserve_fds)
    if plan.new_user_namespace:
        _wait_for(end, sync.MAPPED)  # dumpable until then: the files to write would be root's, not the parent's
    profiles = _open_labels(plan.process)
    process.prctl(process.PR_SET_DUMPABLE, 0)
    join_groups(join_fds)
    _enter_namespaces(plan)
    os.umask(0)  # what is made below has exactly the mode that was asked for
    try:
        prepared = prepare.build(plan, lambda: _hooks(plan, end))
    except OSError as e:
        raise Refusal(f"error preparing rootfs: {os.fsdecode(e.filename or '')} {reason(e)}") from e
    identity.reopen_null()
    executable = _become(plan.process, prepared.identity, prepared.slave, end, plan.warnings, profiles)
    environment = _environment(plan.process, prepared.identity)
    process.set_parent_death_signal(0)
    sync.send(end, sync.READY, prepared.master, warnings=plan.warnings)
    end.close()
    if prepared.master is not None:
        os.close(prepared.master)
    if not os.read(fifo, 1):
        raise SystemExit
    os.close(fifo)
    if plan.start_container_hooks:
        try:
            hooks.run("startContainer", plan.start_container_hooks, _starting(plan))
        except Refusal as e:
            os.write(2, os.fsencode(f"{e}\n"))
            os._exit(1)
    _exec_or_die(executable, plan.process, environment)


def _starting(plan: InitPlan) -> hooks.State:
    return replace(plan.hook_state, pid=os.getpid(), status="created")


def _wait_for(end: sync.End, kind: str) -> None:
    message = sync.receive(end)
    if message is None or message.type != kind:
        raise Refusal(f"the parent is gone: expected {kind}")


def _hooks(plan: InitPlan, end: sync.End) -> None:
    if plan.hooks_before_pivot:
        sync.send(end, sync.HOOKS)
        _wait_for(end, sync.GO)
    if plan.create_container_hooks:
        hooks.run("createContainer", plan.create_container_hooks, replace(plan.hook_state, pid=os.getpid()))


def _enter_namespaces(plan: InitPlan) -> None:
    if plan.new_user_namespace:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    for fd, flag in plan.joins:
        try:
            namespaces.setns(fd, flag)
        except OSError as e:
            raise Refusal(f"error joining namespace: setns: {reason(e)}") from e
        os.close(fd)
    if plan.unshare_cgroup:
        namespaces.unshare(namespaces.CLONE_NEWCGROUP)


def _become(
    plan: ProcessPlan,
    who: users.Identity,
    slave: int | None,
    end: sync.End,
    warnings: list[str],
    profiles: labels.Opened,
) -> bytes:
    if plan.keyring:
        labels.label_keys(profiles, plan.selinux_label)
        with suppress(OSError):  # ENOSYS, EPERM, EDQUOT: kernels and sandboxes without keyrings
            process.join_session_keyring(plan.keyring)
    identity.own_session(slave)
    process.cloexec_from(3 + plan.preserve_fds)  # now, since a seccomp profile may not know close_range(2)
    identity.set_limits(plan, warnings)
    scheduling.apply(plan)
    labels.apply(profiles, plan.apparmor_profile, plan.selinux_label)
    return identity.become(plan, who, _Listener(end))


def _open_labels(plan: ProcessPlan) -> labels.Opened:
    return labels.open_files(plan.apparmor_profile, plan.selinux_label, keyring=bool(plan.keyring))


def _environment(plan: ProcessPlan, who: users.Identity) -> dict[bytes, bytes]:
    environment = plan.environment
    if b"HOME" not in environment:
        environment[b"HOME"] = os.fsencode(who.home or "/")
    return environment


def _exec_or_die(executable: bytes, plan: ProcessPlan, environment: dict[bytes, bytes]) -> NoReturn:
    """The parent no longer listens: as the user would see it from a shell, the text goes to stderr."""
    try:
        os.execve(executable, plan.arguments, environment)
    except OSError as e:
        os.write(2, b"exec %s: %s\n" % (executable, os.fsencode(reason(e))))
        os._exit(255)


def execute(
    plan: ProcessPlan,
    end: sync.End,
    pidfd: int,
    flags: int,
    join_fds: list[int],
    stdio: Stdio | None,
    *,
    joined: int = 0,
) -> NoReturn:
    """A further process of a running container. The pid namespace was joined by the clone, `joined` before it."""
    isolate(end, frozenset({pidfd, *join_fds}), stdio, plan.preserve_fds)
    scheduling.set_cpus(plan.initial_cpus, "initial")
    profiles = _open_labels(plan)
    process.prctl(process.PR_SET_DUMPABLE, 0)
    join_groups(join_fds)
    warnings: list[str] = []
    if plan.oom_score_adj is not None:
        identity.write_oom_score(plan.oom_score_adj, warnings)
    own_user_namespace = bool(flags & namespaces.CLONE_NEWUSER)
    try:
        namespaces.setns(pidfd, flags & ~joined)
    except OSError as e:
        raise Refusal(f"error joining the container's namespaces: setns: {reason(e)}") from e
    if own_user_namespace:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    os.close(pidfd)
    if flags & namespaces.CLONE_NEWNS:
        os.chdir("/")
    root_fd = paths.open_root("/")
    who = users.resolve(root_fd, plan.user, want_home=b"HOME" not in plan.environment)
    master, slave = prepare.open_terminal(root_fd, plan, bind_console=False)
    os.close(root_fd)
    identity.reopen_null()
    scheduling.set_cpus(plan.final_cpus, "final")
    executable = _become(plan, who, slave, end, warnings, profiles)
    environment = _environment(plan, who)
    process.set_parent_death_signal(0)
    sync.send(end, sync.READY, master, warnings=warnings)
    if master is not None:
        os.close(master)
    try:
        os.execve(executable, plan.arguments, environment)
    except OSError as e:
        text = f"exec {os.fsdecode(executable)}: {reason(e)}"
        raise Refusal(text, StartError) from e

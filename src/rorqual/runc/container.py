"""The runtime as a library: create, start, exec, kill, delete of one container, for shim and `rorqual-runc`.

The caller is the parent of init and of execs and collects their exit statuses itself. Everything here blocks, briefly.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from rorqual import errdefs
from rorqual.linux import process
from rorqual.oci import defaults, runtime
from rorqual.oci.runtime import Hooks, Process, Resources, Spec
from rorqual.record import record, replace
from rorqual.runc import execution, hooks, seccomp, state
from rorqual.runc.cgroups import locate
from rorqual.runc.cgroups.group import Group
from rorqual.runc.cgroups.stats import Details, Stats
from rorqual.runc.creation import Creation, Options
from rorqual.runc.errors import StartError, reason
from rorqual.runc.process.child import Stdio
from rorqual.runc.rootfs.root import RootMount
from rorqual.runc.state import Directory, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal

    from rorqual.runc.criu import options as criu
    from rorqual.runc.systemd.scope import Scope
else:
    import _signal as signal

_SIGKILL_TIMEOUT_S = 10.0


@record
class Container:
    """A container that was created. `console_fd`, the terminal's master, is the caller's to close."""

    record: Record
    directory: Directory
    console_fd: int | None = None
    warnings: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def pid(self) -> int:
        return self.record.pid

    @property
    def shares_pid_namespace(self) -> bool:
        """Whether init's end leaves other processes of the container alive."""
        return not self.record.own_pid_namespace

    @property
    def status(self) -> str:
        """CREATING, CREATED, RUNNING, PAUSED or STOPPED (rorqual.runc.state)."""
        if not self.record.pid and self.directory.is_being_made():
            return state.CREATING
        if not state.is_alive(self.record.pid, self.record.start_time):
            return state.STOPPED
        phase = self.directory.phase()
        return state.PAUSED if phase == state.RUNNING and self._group().is_frozen() else phase

    def _group(self) -> Group:
        return locate.existing(self.record.groups)

    def _scope(self) -> Scope | None:
        if not self.record.unit:
            return None
        from rorqual.runc.systemd import names, scope

        return scope.Scope(names.Unit(self.record.unit, ""), of_user=self.record.unit_of_user)

    def start(self) -> list[str]:
        """Let the created process run the user's program; warnings of poststart hooks.

        Raises: Conflict when it can't any more.
        """
        self.directory.open_gate()
        return self.ran()

    def ran(self) -> list[str]:
        """What follows once its program runs; warnings of poststart hooks."""
        return self._run_hooks("poststart", state.RUNNING)

    def _run_hooks(self, name: str, status: str) -> list[str]:
        """Those that the record says there are: nearly all containers have none, and then nothing is read."""
        if name not in self.record.hooks:
            return []
        chosen = Spec.from_json(self.directory.read_config()).hooks or Hooks()
        return hooks.run_all(name, getattr(chosen, name), self.hook_state(status))

    def hook_state(self, status: str) -> hooks.State:
        """The state document of runtime.md, with the given status."""
        r = self.record
        return hooks.State(
            r.oci_version, r.id, status, 0 if status == state.STOPPED else r.pid, r.bundle, r.annotations
        )

    def exec(
        self,
        spec: Process | bytes,
        *,
        stdio: Stdio | None = None,
        preserve_fds: int = 0,
        groups: dict[str, str] | None = None,
        ignore_paused: bool = False,
    ) -> tuple[int, int | None]:
        """A further process in the container: its pid and, with `terminal`, the master. Returns once it has exec'd.

        `groups`: controller ("" for all) -> an existing group below the container's, to put the process there.
        Raises: StartError and its kinds; Conflict when the container isn't running.
        """
        document = Process.from_json(spec) if isinstance(spec, bytes) else spec
        status = self.status
        if status not in (state.RUNNING, state.CREATED) and not (status == state.PAUSED and ignore_paused):
            hint = " (use --ignore-paused to override)" if status == state.PAUSED else ""
            raise errdefs.Conflict(f"cannot exec in a {status} container{hint}")
        try:
            return execution.execute(
                self.record,
                self.directory,
                document,
                stdio=stdio,
                preserve_fds=preserve_fds,
                sub_groups=groups or {},
            )
        except (OSError, StartError) as e:
            if self.status == state.STOPPED:  # it ended meanwhile, and that is why
                raise errdefs.Conflict("cannot exec in a stopped container") from e
            if isinstance(e, OSError):
                raise StartError(f"unable to start container process: {reason(e)}") from e
            raise

    def kill(self, sig: int, all_processes: bool = False) -> None:
        """Raises: NotFound when init has ended (and `all_processes` isn't asked for)."""
        if all_processes:
            self._kill_all(sig)
            return
        self._send(sig)
        if sig == signal.SIGKILL and self._group().is_frozen():
            self._group().thaw()  # a frozen process dies only when thawed

    def _send(self, sig: int) -> None:
        gone = errdefs.NotFound("process already finished")
        try:
            pidfd = os.pidfd_open(self.record.pid)
        except ProcessLookupError:
            raise gone from None
        try:
            # Opened first, then compared: the pid can't have been reused in between.
            if not state.is_alive(self.record.pid, self.record.start_time):
                raise gone
            signal.pidfd_send_signal(pidfd, sig)
        except ProcessLookupError:
            raise gone from None
        finally:
            os.close(pidfd)

    def _kill_all(self, sig: int) -> None:
        group = self._group()
        frozen = False
        if sig == signal.SIGKILL:
            if group.kill():
                return
            with suppress(OSError, errdefs.Error):
                group.freeze()  # nobody forks away meanwhile
                frozen = True
        try:
            for pid in self.pids():
                with suppress(ProcessLookupError):
                    os.kill(pid, sig)
        finally:
            if frozen:
                group.thaw()

    def pids(self) -> list[int]:
        """All processes of the container, as the host numbers them."""
        return self._group().pids() or ([self.pid] if self.status != state.STOPPED else [])

    def pause(self) -> None:
        if self.status not in (state.RUNNING, state.CREATED):
            raise errdefs.Conflict("container not running")
        self._group().freeze()

    def resume(self) -> None:
        if self.status != state.PAUSED:
            raise errdefs.Conflict("container not paused")
        self._group().thaw()

    def update(self, resources: Resources | bytes) -> None:
        """Change limits of the running container. Raises: InvalidArgument naming file and value the kernel refused."""
        document = Resources.from_json(resources) if isinstance(resources, bytes) else resources
        if self.status == state.STOPPED:
            raise errdefs.Conflict("container not running")
        group, scope = self._group(), self._scope()
        if scope is not None:
            scope.update(group.planned(document))
        group.update(document)

    def checkpoint(self, options: criu.Options) -> None:
        """Write it to image files; it ends, unless it is to go on, and then can be deleted.

        Raises: NotImplementedHere without CRIU, Unavailable when CRIU fails, Conflict when it does not run.
        """
        from rorqual.runc.criu import checkpoint

        status = self.status
        if status not in (state.RUNNING, state.PAUSED):
            raise errdefs.Conflict(f"Container cannot be checkpointed in {status} state")
        checkpoint.dump(self.record, self.directory.read_config(), self._group(), options)

    def stats(self) -> Stats:
        return self._group().stats()

    def stats_in_detail(self) -> tuple[Stats, Details]:
        """With what only `events` tells: reading it costs as much again."""
        group = self._group()
        return group.stats(), group.details()

    def oom_watch(self) -> int | None:
        """An fd that becomes readable when the container runs out of memory (or its group goes); None without one."""
        return self._group().oom_watch()

    def oom_kills(self) -> int:
        """How many of its processes the OOM killer has ended so far."""
        return self._group().oom_kills()

    def delete(self, force: bool = False) -> list[str]:
        """Remove what is left of it: groups and record; warnings of poststop hooks. A second call does nothing.

        Raises: Conflict when it still runs and `force` isn't given.
        """
        if self.status != state.STOPPED:
            if not force and self.status != state.CREATED:
                raise errdefs.Conflict(f"cannot delete container {self.id} that is not stopped: {self.status}")
            self._end()
        with self.directory.removing() as ours:
            if not ours:
                return []  # another delete has done it, or the create that failed
            config = self.directory.read_config() if "poststop" in self.record.hooks else b""
            scope = self._scope()
            if scope is not None:
                scope.stop()
            # What ran in init's own pid namespace ended with it. What else is in the group may be anybody's.
            left = self._group().destroy(end=not self.record.own_pid_namespace or not self.pid)
            self.directory.remove()
        warnings = [f"cgroups with processes of others are left: {', '.join(left)}"] if left else []
        if not config:
            return warnings
        chosen = Spec.from_json(config).hooks or Hooks()
        return [*warnings, *hooks.run_all("poststop", chosen.poststop, self.hook_state(state.STOPPED))]

    def _end(self) -> None:
        """Kill init and wait until it, and all that dies with it, is dead or can only die: to reap it, and execs, is
        their parents' business."""
        namespace = _pid_namespace(self.record.pid) if self.record.own_pid_namespace else 0
        with suppress(errdefs.NotFound):
            self.kill(signal.SIGKILL)
        deadline = time.monotonic() + _SIGKILL_TIMEOUT_S
        delay = 0.0002
        while self._runs(namespace):
            if time.monotonic() > deadline:
                raise errdefs.Unavailable(f"container {self.id} does not end on SIGKILL")
            time.sleep(delay)
            delay = min(delay * 2, 0.02)

    def _runs(self, namespace: int) -> bool:
        """Whether init does, or what the kernel ends with it: those of its own pid namespace, some moments later."""
        if state.is_alive(self.record.pid, self.record.start_time) and process.runs(self.record.pid):
            return True
        return namespace > 0 and any(_pid_namespace(pid) == namespace and process.runs(pid) for pid in self.pids())


def _pid_namespace(pid: int) -> int:
    """Its number; 0 when the process is gone."""
    try:
        return os.stat(f"/proc/{pid}/ns/pid").st_ino
    except OSError:
        return 0


def preload() -> None:
    """What a process that forks shims does once, so that none of them repeats it: codecs, mounts, default seccomp."""
    runtime.warm()
    locate.preload()
    seccomp.preload(defaults.default_seccomp(defaults.CAPABILITIES, os.uname().machine))


def load(container_id: str, root: str) -> Container:
    """Raises: NotFound."""
    directory = Directory(root, container_id)
    return Container(directory.read(), directory)


def create(
    container_id: str,
    bundle: str,
    spec: Spec | bytes,
    *,
    root: str,
    stdio: Stdio | None = None,
    rootfs_mounts: tuple[RootMount, ...] = (),
    preserve_fds: int = 0,
    pid_file: str | None = None,
    no_pivot: bool = False,
    new_keyring: bool = True,
    rootless: bool | None = None,
    systemd: bool | None = False,
) -> Container:
    """Build the container up to the point where only the user's program is missing.

    `rootfs_mounts` are performed inside the container's mount namespace on root.path, so the host never sees them.
    `no_pivot`: move the root instead, for a rootfs on the initial ramdisk. `new_keyring`: a session keyring of its own.
    `rootless`: without permission for control groups do without, if nothing asks for them (None: unless we are the
    host's root). `systemd`: linux.cgroupsPath is slice:prefix:name, and the group a unit of systemd's (None: when it is
    of that form).
    Raises: InvalidArgument, AlreadyExists, StartError and its kinds. A create that fails leaves nothing.
    """
    document = spec if isinstance(spec, Spec) else Spec.from_json(spec)
    directory = Directory(root, container_id)
    options = Options(stdio, rootfs_mounts, preserve_fds, pid_file, no_pivot, new_keyring, rootless, systemd)
    creation = Creation(container_id, os.path.abspath(bundle), document, directory, options)
    with directory.making():
        try:
            directory.write_config(spec.to_json() if isinstance(spec, Spec) else spec)
            made = creation.run()
        except BaseException:
            directory.remove()
            creation.undone()
            raise
    return Container(made.record, directory, made.console_fd, made.warnings)


def restore(
    container_id: str,
    bundle: str,
    spec: Spec | bytes,
    options: criu.Options,
    *,
    root: str,
    stdio: Stdio | None = None,
) -> Container:
    """A container as it was when it was checkpointed, running. Its init is this process's child.

    Raises: as `create`, and NotImplementedHere without CRIU. A restore that fails leaves nothing.
    """
    from rorqual.runc.criu.restore import Restoration

    document = spec if isinstance(spec, Spec) else Spec.from_json(spec)
    directory = Directory(root, container_id)
    restoration = Restoration(container_id, os.path.abspath(bundle), document, directory, options, stdio)
    with directory.making():
        try:
            directory.write_config(spec.to_json() if isinstance(spec, Spec) else spec)
            record, console_fd = restoration.run()
        except BaseException:
            directory.remove()
            raise
    made = Container(record, directory, console_fd)
    return replace(made, warnings=tuple(made.ran()))

"""The runtime as a library: create, start, exec, kill, delete of one container, for shim and `rorqual-runc`.

The caller is the parent of init and of execs and collects their exit statuses itself. Everything here blocks, briefly.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from rorqual import errdefs
from rorqual.linux import mount, namespaces, process
from rorqual.oci import defaults, runtime
from rorqual.oci.runtime import Hooks, Linux, Process, Resources, Spec
from rorqual.record import record, replace
from rorqual.runc import hooks, netdevices, planning, seccomp, state, usermaps
from rorqual.runc.cgroups import locate
from rorqual.runc.cgroups.group import Group
from rorqual.runc.cgroups.stats import Stats
from rorqual.runc.errors import Refusal, StartError, reason
from rorqual.runc.process import child, parent, scheduling, sync
from rorqual.runc.process.child import Stdio
from rorqual.runc.process.plan import InitPlan
from rorqual.runc.rootfs import mounts
from rorqual.runc.rootfs.cgroupfs import Groups
from rorqual.runc.rootfs.root import RootMount
from rorqual.runc.state import Directory, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
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
        if not state.is_alive(self.record.pid, self.record.start_time):
            return state.STOPPED
        phase = self.directory.phase()
        return state.PAUSED if phase == state.RUNNING and self._group().is_frozen() else phase

    def _group(self) -> Group:
        return locate.existing(self.record.groups)

    def start(self) -> list[str]:
        """Let the created process run the user's program; warnings of poststart hooks.

        Raises: Conflict when it can't any more.
        """
        self.directory.open_gate()
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
        return _exec(self, document, stdio, preserve_fds, _sub_groups(self.record.groups, groups or {}))

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
            for pid in group.pids():
                with suppress(ProcessLookupError):
                    os.kill(pid, sig)
        finally:
            if frozen:
                group.thaw()

    def pids(self) -> list[int]:
        """All processes of the container, as the host numbers them."""
        return self._group().pids()

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
        self._group().update(document)

    def stats(self) -> Stats:
        return self._group().stats()

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
        self._group().destroy()
        config = self.directory.read_config() if "poststop" in self.record.hooks and self.directory.exists() else b""
        self.directory.remove()
        if not config:
            return []
        chosen = Spec.from_json(config).hooks or Hooks()
        return hooks.run_all("poststop", chosen.poststop, self.hook_state(state.STOPPED))

    def _end(self) -> None:
        """Kill init and wait until it is dead; being its parent's business, it isn't reaped here."""
        with suppress(errdefs.NotFound):
            self.kill(signal.SIGKILL)
        deadline = time.monotonic() + _SIGKILL_TIMEOUT_S
        delay = 0.0002
        while state.is_alive(self.record.pid, self.record.start_time):
            if time.monotonic() > deadline:
                raise errdefs.Unavailable(f"container {self.id} does not end on SIGKILL")
            time.sleep(delay)
            delay = min(delay * 2, 0.02)


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
) -> Container:
    """Build the container up to the point where only the user's program is missing.

    `rootfs_mounts` are performed inside the container's mount namespace on root.path, so the host never sees them.
    `no_pivot`: move the root instead, for a rootfs on the initial ramdisk. `new_keyring`: a session keyring of its own.
    Raises: InvalidArgument, AlreadyExists, StartError and its kinds. A create that fails leaves nothing.
    """
    document = spec if isinstance(spec, Spec) else Spec.from_json(spec)
    directory = Directory(root, container_id)
    directory.make()
    try:
        directory.write_config(spec.to_json() if isinstance(spec, Spec) else spec)
        options = _Options(stdio, rootfs_mounts, preserve_fds, pid_file, no_pivot, new_keyring)
        return _Creation(container_id, os.path.abspath(bundle), document, directory, options).run()
    except BaseException:
        directory.remove()
        raise


@record
class _Options:
    stdio: Stdio | None
    root_mounts: tuple[RootMount, ...]
    preserve_fds: int
    pid_file: str | None
    no_pivot: bool
    new_keyring: bool


class _Creation:
    """One create: what was opened and made so far, to be undone when a later step fails."""

    def __init__(self, container_id: str, bundle: str, spec: Spec, directory: Directory, options: _Options) -> None:
        self._id = container_id
        self._bundle = bundle
        self._spec = spec
        self._linux = spec.linux or Linux()
        self._directory = directory
        self._options = options
        self._fds: list[int] = []

    def run(self) -> Container:
        if self._spec.process is None:
            raise errdefs.InvalidArgument("invalid config: process is required")
        hooks.check(self._spec.hooks)
        fresh, joined = planning.namespace_flags(self._linux)
        user_process = planning.process_plan(
            self._spec.process,
            container_id=self._id,
            seccomp=self._linux.seccomp,
            cache_dir=f"{self._directory.root}/.seccomp",
            personality=scheduling.personality(self._linux.personality),
            preserve_fds=self._options.preserve_fds,
            new_keyring=self._options.new_keyring,
        )
        group = locate.new(self._linux.cgroups_path, self._id)
        try:
            group.create(self._linux.resources or Resources())
            joins, pid_namespace = self._open_namespaces(joined)
            plan = planning.init_plan(
                self._spec,
                self._bundle,
                user_process,
                _shown_groups(group, fresh),
                root_mounts=self._options.root_mounts,
                no_pivot=self._options.no_pivot,
                joins=joins,
                trees=self._clone_trees(fresh),
                hook_state=self._hook_state(0),
            )
            return self._spawn(plan, group, fresh, joined, pid_namespace)
        except BaseException:
            _destroy_quietly(group)
            raise
        finally:
            for fd in self._fds:
                os.close(fd)

    def _open(self, path: str) -> int:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._fds.append(fd)
        return fd

    def _open_namespaces(self, joined: dict[int, str]) -> tuple[tuple[tuple[int, int], ...], int | None]:
        """fds of the namespaces to join, the user namespace first; the pid namespace apart (see parent.py)."""
        opened: dict[int, int] = {}
        for flag, path in joined.items():
            try:
                opened[flag] = self._open(path)
            except OSError as e:
                raise errdefs.InvalidArgument(f"invalid config: linux.namespaces: path {path}: {reason(e)}") from e
        pid_namespace = opened.pop(namespaces.CLONE_NEWPID, None)
        order = sorted(opened, key=lambda flag: flag != namespaces.CLONE_NEWUSER)
        return tuple((opened[flag], flag) for flag in order), pid_namespace

    def _hook_state(self, pid: int) -> hooks.State:
        annotations = dict(self._spec.annotations or {})
        return hooks.State(self._spec.oci_version, self._id, state.CREATING, pid, self._bundle, annotations)

    def _clone_trees(self, fresh: int) -> dict[int, int]:
        """Sources of mounts that the child couldn't make itself: ID-mapped ones, and all binds when it will have no
        power over the host's files (a user namespace)."""
        trees: dict[int, int] = {}
        for index, entry in enumerate(self._spec.mounts):
            planned = planning.planned_mount(entry, f"mounts[{index}]", self._bundle)
            mapped = planned.options.id_mapped or bool(entry.uid_mappings)
            if not planned.is_bind or not (mapped or (fresh & namespaces.CLONE_NEWUSER and os.geteuid() == 0)):
                continue
            try:
                tree = mounts.clone_source(planned.mount.source, planned.options)
                self._fds.append(tree)
                if mapped:
                    self._map_tree(tree, planned)
            except OSError as e:
                raise StartError(
                    f'unable to start container process: error mounting "{planned.mount.source}" to rootfs at '
                    f'"{entry.destination}": {reason(e)}'
                ) from e
            trees[index] = tree
        return trees

    def _map_tree(self, tree: int, planned: mounts.Planned) -> None:
        uids = planned.mount.uid_mappings or self._linux.uid_mappings
        gids = planned.mount.gid_mappings or self._linux.gid_mappings
        if not uids or not gids:
            raise errdefs.InvalidArgument(
                f"invalid config: mount of {planned.mount.destination}: idmap needs uidMappings and gidMappings, "
                "the mount's own or the container's"
            )
        namespace = usermaps.namespace_fd(uids, gids)
        try:
            mount.set_attributes(
                tree,
                set_=mount.MOUNT_ATTR_IDMAP,
                userns_fd=namespace,
                recursive=planned.options.id_mapped_recursive,
            )
        finally:
            os.close(namespace)

    def _on_hooks(self, pid: int) -> None:
        """prestart and createRuntime: the container's namespaces are there, its program isn't."""
        chosen = self._spec.hooks or Hooks()
        try:
            # "created" is what the validation suite of the spec asks for, from when these hooks were a part of start.
            hooks.run("prestart", chosen.prestart, replace(self._hook_state(pid), status=state.CREATED))
            hooks.run("createRuntime", chosen.create_runtime, self._hook_state(pid))
        except Refusal as e:
            raise StartError(f"unable to start container process: {e}") from e

    def _spawn(
        self,
        plan: InitPlan,
        group: Group,
        fresh: int,
        joined: dict[int, str],
        pid_namespace: int | None,
    ) -> Container:
        fifo = self._directory.make_fifo()
        self._fds.append(fifo)
        join_fds = group.open_join_fds()
        self._fds += join_fds
        ours, theirs = sync.pair()
        late = namespaces.CLONE_NEWCGROUP | (namespaces.CLONE_NEWTIME if plan.time_offsets else 0)
        with ours:
            with theirs:
                pid = parent.spawn(
                    theirs,
                    lambda: child.init(plan, theirs, fifo, join_fds, self._options.stdio),
                    flags=fresh & ~late,
                    pid_namespace=pid_namespace,
                )
            try:
                if fresh & namespaces.CLONE_NEWUSER:
                    usermaps.write(pid, self._linux.uid_mappings, self._linux.gid_mappings)
                    sync.send(ours, sync.MAPPED)
                record = self._record(pid, plan, group, fresh, joined)
                self._directory.write(record)
                if self._linux.net_devices:
                    network = joined.get(namespaces.CLONE_NEWNET, f"/proc/{pid}/ns/net")
                    netdevices.move(self._linux.net_devices, network)
                console, warnings = parent.follow(
                    ours,
                    on_hooks=lambda: self._on_hooks(pid),
                    on_notify=lambda fd: self._send_listener(fd, pid),
                )
                if self._options.pid_file is not None:
                    write_pid_file(self._options.pid_file, pid)
                self._directory.created()
            except BaseException:
                parent.reap(pid)
                raise
        return Container(record, self._directory, console, tuple(warnings))

    def _record(self, pid: int, plan: InitPlan, group: Group, fresh: int, joined: dict[int, str]) -> Record:
        flags = fresh
        for flag in joined:
            flags |= flag
        return Record(
            id=self._id,
            bundle=self._bundle,
            rootfs=plan.rootfs.path,
            pid=pid,
            start_time=process.start_time(pid),
            created_ns=time.time_ns(),
            namespaces=flags,
            own_pid_namespace=bool(fresh & namespaces.CLONE_NEWPID),
            groups=group.directories(),
            oci_version=self._spec.oci_version,
            owner=os.geteuid(),
            annotations=dict(self._spec.annotations or {}),
            hooks=[name for name in ("poststart", "poststop") if getattr(self._spec.hooks, name, ())],
        )

    def _send_listener(self, fd: int, pid: int) -> None:
        assert self._linux.seccomp is not None
        document = self._hook_state(pid).to_json()
        seccomp.send_listener(self._linux.seccomp, fd, pid, document)


def _shown_groups(group: Group, fresh: int) -> Groups:
    own_namespace = bool(fresh & namespaces.CLONE_NEWCGROUP)
    return Groups(group.mount_sources(), group.mount_options() if own_namespace else {}, group.unified())


def _destroy_quietly(group: Group) -> None:
    """After a failure, which is what the caller must see, not the clean-up's."""
    with suppress(errdefs.Error, OSError):
        group.destroy()


def write_pid_file(path: str, pid: int) -> None:
    """Atomically: whoever waits for the file never reads half a number."""
    temporary = f"{os.path.dirname(path) or '.'}/.{os.path.basename(path)}"
    with open(temporary, "w") as f:
        f.write(str(pid))
    os.rename(temporary, path)


def _sub_groups(groups: dict[str, str], chosen: dict[str, str]) -> dict[str, str]:
    """The container's groups with those replaced that an exec is to be below."""
    everywhere = chosen.get("", "")
    return {c: os.path.normpath(f"{d}/{chosen.get(c, everywhere)}") for c, d in groups.items()} if chosen else groups


def _exec(
    container: Container, document: Process, stdio: Stdio | None, preserve_fds: int, groups: dict[str, str]
) -> tuple[int, int | None]:
    container_spec = _stored_spec(container)
    linux = container_spec.linux or Linux()
    defaults = container_spec.process
    if document.capabilities is None and defaults is not None:
        document = replace(document, capabilities=defaults.capabilities)
    plan = planning.process_plan(
        document,
        container_id=container.id,
        seccomp=linux.seccomp,
        cache_dir=f"{container.directory.root}/.seccomp",
        preserve_fds=preserve_fds,
        new_keyring=False,
    )
    pidfd = os.pidfd_open(container.pid)
    fds = [pidfd]
    try:
        flags = container.record.namespaces
        join_fds = locate.existing(groups).joinable(container.pid).open_join_fds()
        fds += join_fds
        ours, theirs = sync.pair()
        with ours:
            with theirs:
                pid = parent.spawn(
                    theirs,
                    lambda: child.execute(plan, theirs, pidfd, flags & ~namespaces.CLONE_NEWPID, join_fds, stdio),
                    flags=0,
                    pid_namespace=pidfd if flags & namespaces.CLONE_NEWPID else None,
                )
            try:
                console, _ = parent.follow(ours, on_hooks=lambda: None, on_notify=os.close)
                parent.until_exec(ours)
            except BaseException:
                parent.reap(pid)
                raise
    finally:
        for fd in fds:
            os.close(fd)
    return pid, console


def _stored_spec(container: Container) -> Spec:
    """The spec the container was created with."""
    return Spec.from_json(container.directory.read_config())

"""One create, step by step: groups, namespaces, mounts' sources, init; and undoing it when a step fails."""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress

from rorqual import errdefs
from rorqual.linux import mount, namespaces, process
from rorqual.oci.runtime import Hooks, Linux, Resources, Spec
from rorqual.record import record, replace
from rorqual.runc import hooks, netdevices, planning, seccomp, state, usermaps
from rorqual.runc.cgroups import locate, none
from rorqual.runc.cgroups.group import Group
from rorqual.runc.errors import Refusal, StartError, reason
from rorqual.runc.process import child, parent, scheduling, sync
from rorqual.runc.process.child import Stdio
from rorqual.runc.process.plan import InitPlan
from rorqual.runc.rootfs import mounts, root
from rorqual.runc.rootfs.cgroupfs import Groups
from rorqual.runc.rootfs.root import RootMount
from rorqual.runc.state import Directory, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.runc.systemd.scope import Scope


@record
class Made:
    """`console_fd`: the terminal's master, the caller's to close."""

    record: Record
    console_fd: int | None
    warnings: tuple[str, ...]


@record
class Options:
    """What a caller of `container.create` may choose."""

    stdio: Stdio | None
    root_mounts: tuple[RootMount, ...]
    preserve_fds: int
    pid_file: str | None
    no_pivot: bool
    new_keyring: bool
    rootless: bool | None
    systemd: bool | None = False


class Creation:
    """One create: what was opened and made so far, to be undone when a later step fails."""

    def __init__(self, container_id: str, bundle: str, spec: Spec, directory: Directory, options: Options) -> None:
        self._id = container_id
        self._bundle = bundle
        self._spec = spec
        self._linux = spec.linux or Linux()
        self._directory = directory
        self._options = options
        self._fds: list[int] = []
        self._started = False
        self._own_pid_namespace = True
        self._scope: Scope | None = None

    def undone(self) -> None:
        """After a failure, once everything has been removed: runtime.md goes on with the poststop hooks (step 12)."""
        if self._started and self._spec.hooks is not None:
            ended = replace(self._hook_state(0), status=state.STOPPED)
            hooks.run_all("poststop", self._spec.hooks.poststop, ended)

    def run(self) -> Made:
        """Raises: InvalidArgument, StartError and its kinds; nothing is left then but the directory."""
        if self._spec.process is None:
            raise errdefs.InvalidArgument("invalid config: process is required")
        hooks.check(self._spec.hooks)
        fresh, joined = planning.namespace_flags(self._linux)
        self._own_pid_namespace = bool(fresh & namespaces.CLONE_NEWPID)
        user_process = planning.process_plan(
            self._spec.process,
            container_id=self._id,
            seccomp=self._linux.seccomp,
            cache_dir=f"{self._directory.root}/.seccomp",
            personality=scheduling.personality(self._linux.personality),
            preserve_fds=self._options.preserve_fds,
            new_keyring=self._options.new_keyring,
            user_namespace=bool(fresh & namespaces.CLONE_NEWUSER or namespaces.CLONE_NEWUSER in joined),
        )
        group = self._locate_group()
        if group.is_frozen():  # somebody else's, and ours would never get out of it
            raise StartError("container's cgroup unexpectedly frozen")
        # Before there is anything to find: a caller that is killed leaves what `delete` then removes.
        self._directory.write(self._record(0, group))
        try:
            group = self._create_group(group)
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
                root_tree=self._detach_root(fresh),
                hook_state=self._hook_state(0),
            )
            return self._spawn(plan, group, fresh, joined, pid_namespace)
        except BaseException:
            self._destroy_quietly(group)
            raise
        finally:
            for fd in self._fds:
                os.close(fd)

    def _locate_group(self) -> Group:
        path = self._linux.cgroups_path
        wanted = self._options.systemd
        if wanted is None:
            wanted = locate.names_a_unit(path)
        if not wanted:
            return locate.new(path, self._id)
        from rorqual.runc.systemd import names, scope  # few hosts' engines ask for it, and then each command once

        of_user = _is_rootless(self._options.rootless)
        unit = names.unit(path, self._id, of_user=of_user)
        self._scope = scope.Scope(unit, of_user=of_user)
        return locate.at(self._scope.group())

    def _start_scope(self, group: Group, resources: Resources) -> None:
        if self._scope is None:
            return
        from rorqual.runc.systemd import properties

        wanted = properties.annotated(dict(self._spec.annotations or {}))
        self._scope.start(group.planned(resources), resources.devices, self._id, wanted)

    def _create_group(self, group: Group) -> Group:
        """The group made, or none where a rootless container may do without."""
        resources = self._linux.resources or Resources()
        try:
            self._start_scope(group, resources)
            group.create(resources)
            return group
        except OSError as e:
            if not _is_rootless(self._options.rootless) or e.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            self._destroy_quietly(group)
            if self._linux.cgroups_path:
                raise errdefs.PermissionDenied(
                    "rootless needs no limits and no linux.cgroupsPath when no permission is granted for cgroups: "
                    f"{os.fsdecode(e.filename or '')}: {reason(e)}"
                ) from e
        without = none.Group()
        without.create(resources)
        self._directory.write(self._record(0, without))
        return without

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

    def _detach_root(self, fresh: int) -> int | None:
        wanted = namespaces.CLONE_NEWUSER | namespaces.CLONE_NEWNS
        if fresh & wanted != wanted or os.geteuid() != 0:
            return None
        try:
            tree = root.detached(planning.root_path(self._spec, self._bundle), self._options.root_mounts)
        except Refusal as e:
            raise StartError(f"unable to start container process: {e}") from e
        self._fds.append(tree)
        return tree

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
    ) -> Made:
        fifo = self._directory.make_fifo()
        self._fds.append(fifo)
        join_fds = group.open_join_fds()
        self._fds += join_fds
        group_fd = group.open_clone_fd()
        if group_fd is not None:
            self._fds.append(group_fd)
        ours, theirs = sync.pair()
        late = namespaces.CLONE_NEWCGROUP | (namespaces.CLONE_NEWTIME if plan.time_offsets else 0)
        with ours:
            with theirs:
                pid = parent.spawn_into(
                    theirs,
                    lambda fds: child.init(plan, theirs, fifo, fds, self._options.stdio),
                    group_fd=group_fd,
                    join_fds=join_fds,
                    flags=fresh & ~late,
                    pid_namespace=pid_namespace,
                )
            try:
                if fresh & namespaces.CLONE_NEWUSER:
                    usermaps.write(pid, self._linux.uid_mappings, self._linux.gid_mappings)
                    sync.send(ours, sync.MAPPED)
                record = self._record(pid, group)
                self._directory.write(record)
                if self._linux.net_devices:
                    network = joined.get(namespaces.CLONE_NEWNET, f"/proc/{pid}/ns/net")
                    netdevices.move(self._linux.net_devices, network)
                console, warnings = parent.follow(
                    ours,
                    on_hooks=lambda: self._on_hooks(pid),
                    on_notify=lambda fd: self._send_listener(fd, pid),
                )
                if self._scope is not None:
                    self._scope.settled()
                if self._options.pid_file is not None:
                    write_pid_file(self._options.pid_file, pid)
                self._directory.created()
            except BaseException:
                parent.reap(pid)
                self._started = True
                if self._options.pid_file is not None:
                    with suppress(FileNotFoundError):
                        os.unlink(self._options.pid_file)
                raise
        return Made(record, console, tuple(warnings))

    def _record(self, pid: int, group: Group) -> Record:
        unit = ("", False) if self._scope is None else (self._scope.unit.name, self._scope.of_user)
        return record_of(self._id, self._bundle, self._spec, pid, group, unit=unit)

    def _destroy_quietly(self, group: Group) -> None:
        """After a failure, which is what the caller must see, not the clean-up's."""
        with suppress(errdefs.Error, OSError):
            if self._scope is not None and self._scope.is_ours:
                self._scope.stop()
        with suppress(errdefs.Error, OSError):
            group.destroy(end=self._started and not self._own_pid_namespace)

    def _send_listener(self, fd: int, pid: int) -> None:
        assert self._linux.seccomp is not None
        document = self._hook_state(pid).to_json()
        seccomp.send_listener(self._linux.seccomp, fd, pid, document)


def _shown_groups(group: Group, fresh: int) -> Groups:
    own_namespace = bool(fresh & namespaces.CLONE_NEWCGROUP)
    return Groups(group.mount_sources(), group.mount_options() if own_namespace else {}, group.unified())


def _is_rootless(chosen: bool | None) -> bool:
    """Without a choice: an ordinary user, and root of a user namespace, which the host's root gave nothing either."""
    if chosen is not None:
        return chosen
    return os.geteuid() != 0 or not namespaces.in_initial_user_namespace()


def write_pid_file(path: str, pid: int) -> None:
    """Atomically: whoever waits for the file never reads half a number."""
    temporary = f"{os.path.dirname(path) or '.'}/.{os.path.basename(path)}"
    with open(temporary, "w") as f:
        f.write(str(pid))
    os.rename(temporary, path)


def record_of(
    container_id: str,
    bundle: str,
    spec: Spec,
    pid: int,
    group: Group,
    *,
    more_namespaces: int = 0,
    unit: tuple[str, bool] = ("", False),
) -> Record:
    """What is written of a container: `pid` 0 before it has one; `more_namespaces` are CLONE_NEW* flags of those that
    the spec does not name; `unit` is systemd's, and whether it is of the user's own manager."""
    fresh, joined = planning.namespace_flags(spec.linux or Linux())
    flags = fresh | more_namespaces
    for flag in joined:
        flags |= flag
    return Record(
        id=container_id,
        bundle=bundle,
        rootfs=planning.root_path(spec, bundle),
        pid=pid,
        start_time=process.start_time(pid) if pid else 0,
        created_ns=time.time_ns(),
        namespaces=flags,
        own_pid_namespace=bool(fresh & namespaces.CLONE_NEWPID),
        groups=group.directories(),
        oci_version=spec.oci_version,
        owner=os.geteuid(),
        annotations=dict(spec.annotations or {}),
        hooks=[name for name in ("poststart", "poststop") if getattr(spec.hooks, name, ())],
        unit=unit[0],
        unit_of_user=unit[1],
    )

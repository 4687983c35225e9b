"""A container made from image files: CRIU makes its processes and namespaces, this runtime all around them.

The rootfs is mounted once more meanwhile, below the container's state, as CRIU wants it: the root of a mount whose
parent is not covered. The restored init is a child of this process, as a created one is.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager, suppress

from rorqual import errdefs
from rorqual.linux import cgroups, mount, namespaces, paths
from rorqual.oci import jsontext
from rorqual.oci.runtime import Hooks, Linux, Resources, Spec
from rorqual.record import replace
from rorqual.runc import hooks, planning, state
from rorqual.runc.cgroups import locate
from rorqual.runc.cgroups.group import Group
from rorqual.runc.creation import record_of
from rorqual.runc.criu import options as choices
from rorqual.runc.criu import service, wire
from rorqual.runc.criu.options import Options
from rorqual.runc.criu.service import Service
from rorqual.runc.errors import Refusal, StartError, reason
from rorqual.runc.process import parent
from rorqual.runc.process.child import Stdio
from rorqual.runc.state import Directory, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rorqual.runc.criu.wire import Answer, Member

LOG = "restore.log"
_TIME_NAMESPACE_SINCE = 31400
_JOINABLE = {"ipc": "ipc", "mount": "mnt", "user": "user", "uts": "uts", "time": "time"}


class Restoration:
    """One restore: what was made so far, to be undone when a later step fails."""

    def __init__(
        self, container_id: str, bundle: str, spec: Spec, directory: Directory, options: Options, stdio: Stdio | None
    ) -> None:
        self._id = container_id
        self._bundle = bundle
        self._spec = spec
        self._linux = spec.linux or Linux()
        self._directory = directory
        self._options = options
        self._stdio = stdio
        self._fds: list[int] = []
        self._record: Record | None = None
        self._console: int | None = None
        self._version = 0

    def run(self) -> tuple[Record, int | None]:
        """The container's record and its terminal's master. Raises: errdefs.Error; nothing is left then."""
        self._version = service.version()
        group = locate.new(self._linux.cgroups_path, self._id)
        if group.is_frozen():
            raise StartError("container's cgroup unexpectedly frozen")
        self._directory.write(self._recorded(0, group))
        try:
            group.create(self._linux.resources or Resources())
            with choices.directories(self._options, make=False) as directories, self._mounted_root() as root:
                self._ask([*directories, *self._members(group, root)], group)
        except BaseException:
            self._undo(group)
            raise
        finally:
            for fd in self._fds:
                os.close(fd)
        assert self._record is not None
        return self._record, self._console

    def _undo(self, group: Group) -> None:
        if self._record is not None:
            parent.reap(self._record.pid)
        if self._console is not None:
            os.close(self._console)
        with suppress(errdefs.Error, OSError):  # the first failure is what the caller must see
            group.destroy(end=False)

    def _members(self, group: Group, root: str) -> list[Member]:
        members = choices.common(self._options, LOG, dict(self._spec.annotations or {}))
        members += [(wire.EVASIVE_DEVICES, True), (wire.RST_SIBLING, True), (wire.ROOT, root)]
        if self._options.lsm_profile:
            members.append((wire.LSM_PROFILE, self._options.lsm_profile))
        if self._options.lsm_mount_context:
            members.append((wire.LSM_MOUNT_CONTEXT, self._options.lsm_mount_context))
        self._make_mount_points()
        members += [choices.external(*pair) for pair in choices.outside_mounts(self._spec, self._bundle, group)]
        if self._linux.masked_paths:
            members.append(choices.external("/dev/null", "/dev/null"))
        return [*members, *self._inherited_stdio(), *self._namespaces()]

    @contextmanager
    def _mounted_root(self) -> Iterator[str]:
        path = self._directory.make_root()
        try:
            target = paths.open_root(path)
            try:
                mount.bind_at(planning.root_path(self._spec, self._bundle), target, recursive=True)
            finally:
                os.close(target)
            # In the peer group of the rootfs's file system: the container's root, a slave of it, finds its master here.
            yield os.path.realpath(path)
        finally:
            self._directory.remove_root()

    def _make_mount_points(self) -> None:
        """As create makes them: in a rootfs where the container never ran there are none. What is on a tmpfs is in the
        images."""
        root = paths.open_root(planning.root_path(self._spec, self._bundle))
        tmpfs = [choices.inside(m.destination) for m in self._spec.mounts if m.type == "tmpfs"]
        try:
            for index, entry in enumerate(self._spec.mounts):
                planned = planning.planned_mount(entry, f"mounts[{index}]", self._bundle)
                destination = choices.inside(entry.destination)
                if entry.type == "cgroup" or any(destination.startswith(f"{above}/") for above in tmpfs):
                    continue
                is_directory = not planned.is_bind or stat.S_ISDIR(os.stat(planned.mount.source).st_mode)
                make = paths.mkdir_all_in_root if is_directory else paths.create_in_root
                os.close(make(root, destination))
        except OSError as e:
            raise StartError(f"create criu restore mountpoint for {destination}: {reason(e)}") from e
        finally:
            os.close(root)

    def _inherited_stdio(self) -> list[Member]:
        """Pipes that were stdin, stdout and stderr are this process's own now."""
        directory = os.open(self._options.image_path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            names = jsontext.loads(paths.read_in_root(directory, choices.DESCRIPTORS, 65536))
        except (OSError, ValueError) as e:
            text = reason(e) if isinstance(e, OSError) else str(e)
            raise errdefs.InvalidArgument(f"{self._options.image_path}/{choices.DESCRIPTORS}: {text}") from e
        finally:
            os.close(directory)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise errdefs.InvalidArgument(f"{self._options.image_path}/{choices.DESCRIPTORS} is not a list of names")
        return [
            (wire.INHERIT_FD, ((1, name), (2, fd))) for fd, name in enumerate(names[:3]) if name.startswith("pipe:")
        ]

    def _namespaces(self) -> list[Member]:
        members: list[Member] = []
        for kind, path in choices.joined(self._linux).items():
            if kind in choices.EXTERNAL_NAMESPACES:
                try:
                    self._fds.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
                except OSError as e:
                    raise errdefs.InvalidArgument(f"requested {kind} namespace {path}: {reason(e)}") from e
                key = choices.EXTERNAL_NAMESPACES[kind][1]
                members.append((wire.INHERIT_FD, ((1, key), (2, 3 + len(self._fds)))))
            elif kind in _JOINABLE:
                members.append((wire.JOIN_NS, ((1, _JOINABLE[kind]), (2, path))))
            else:
                raise errdefs.InvalidArgument(f"a {kind} namespace cannot be joined by a restored container")
        return members

    def _ask(self, members: list[Member], group: Group) -> None:
        join_fds = group.open_join_fds()
        try:
            worker = Service(stdio=self._stdio, join_fds=join_fds, inherited=self._fds)
        finally:
            for fd in join_fds:
                os.close(fd)
        with worker:
            for controller, path in cgroups.own_groups(worker.pid).items():
                members.append((wire.CG_ROOT, ((1, controller), (2, path))))
            worker.ask(wire.request(wire.RESTORE, members), lambda a, fd: self._notified(a, fd, group))
            worker.finish()
        if self._record is None:
            raise errdefs.Unavailable("criu failed: it restored no process")

    def _notified(self, answer: Answer, fd: int | None, group: Group) -> None:
        if answer.script == "orphan-pts-master" and fd is not None:
            self._console = fd
            return
        if fd is not None:
            os.close(fd)
        if answer.script == "setup-namespaces":
            self._run_hooks(answer.pid)
        elif answer.script == "post-restore":
            self._record = self._recorded(answer.pid, group)
            self._directory.write(self._record)

    def _run_hooks(self, pid: int) -> None:
        chosen = self._spec.hooks or Hooks()
        now = hooks.State(
            self._spec.oci_version, self._id, state.CREATING, pid, self._bundle, dict(self._spec.annotations or {})
        )
        try:
            hooks.run("prestart", chosen.prestart, replace(now, status=state.CREATED))
            hooks.run("createRuntime", chosen.create_runtime, now)
        except Refusal as e:
            raise StartError(f"unable to restore container process: {e}") from e

    def _recorded(self, pid: int, group: Group) -> Record:
        more = 0
        if self._version >= _TIME_NAMESPACE_SINCE and os.path.exists("/proc/self/ns/time"):
            more = namespaces.CLONE_NEWTIME  # CRIU has its clocks go on from where they were
        return record_of(self._id, self._bundle, self._spec, pid, group, more_namespaces=more)

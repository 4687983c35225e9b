"""A container's group on cgroup v2: one directory in the unified hierarchy.

A controller limits a group only when each group above names it in cgroup.subtree_control, so they are switched on all
the way down; a group that has them on for its children holds no processes itself (the root group excepted).

Source: Documentation/admin-guide/cgroup-v2.rst.
"""

import errno
import os
import select
import time
from contextlib import suppress

from rorqual import errdefs
from rorqual.linux import inotify
from rorqual.oci.runtime import DeviceRule, Resources
from rorqual.runc.cgroups import blkio, cpu, cpuset, devices, devices_bpf, group, hugetlb, memory, pids, rdma, stats_v2
from rorqual.runc.cgroups.settings import Write, Writes
from rorqual.runc.cgroups.stats import Details, Stats

_FREEZE_TIMEOUT_S = 10.0
_NAMESPACE_WHOLE = "4294967295"  # the length of the only mapping in the initial user namespace


class Group:
    """`directory`: the container's, below `mountpoint`."""

    def __init__(self, mountpoint: str, directory: str) -> None:
        self._mountpoint = mountpoint
        self._directory = directory

    def directories(self) -> dict[str, str]:
        return {"": self._directory}

    def create(self, resources: Resources) -> None:
        for parent in _ancestors(self._mountpoint, self._directory):
            with suppress(FileExistsError):
                os.mkdir(parent, 0o755)
            _delegate(parent)
        with suppress(FileExistsError):
            os.mkdir(self._directory, 0o755)
        if group.read_file(f"{self._directory}/cgroup.type") == "domain invalid":
            # Below a threaded group only threads can be: the one way to have processes here is to be threaded too.
            group.write_file(f"{self._directory}/cgroup.type", "threaded")
        self._apply(resources)
        self._limit_devices((*resources.devices, *devices.DEFAULT_RULES) if resources.devices else ())

    def update(self, resources: Resources) -> None:
        self._apply(resources)
        self._limit_devices(resources.devices)

    def planned(self, resources: Resources) -> Writes:
        """linux.resources.unified last: it is written last too."""
        return [*self._decide(resources), *(Write(n, v.strip()) for n, v in (resources.unified or {}).items())]

    def _apply(self, resources: Resources) -> None:
        if resources.network is not None and (resources.network.class_id or resources.network.priorities):
            raise errdefs.InvalidArgument("invalid config: linux.resources.network is not available on cgroup v2")
        writes = self._decide(resources)
        available = self._text("cgroup.controllers").split() if writes else []
        for item in writes:
            controller = item.file.partition(".")[0]
            if controller not in available and not item.optional:
                raise errdefs.InvalidArgument(
                    f"cannot set {item.file}: cgroup controller {controller} is not available in {self._directory}: "
                    "the kernel lacks it, or a group above has processes of its own"
                )
        group.write(self._directory, writes)
        self._write_unified(resources.unified or {})

    def _decide(self, r: Resources) -> Writes:
        writes: Writes = []
        if r.pids is not None:
            writes += pids.writes(r.pids)
        if r.memory is not None:
            if r.memory.check_before_update:
                memory.check_usage(r.memory.limit, self._number("memory.current"))
            writes += memory.v2(r.memory, self._number("memory.max"))
        if r.block_io is not None:
            writes += blkio.v2(r.block_io, self._has("io.bfq.weight"))
        if r.cpu is not None:
            writes += cpu.v2(r.cpu, self._text("cpu.max"))
            writes += cpuset.writes(r.cpu)
        writes += hugetlb.v2(r.hugepage_limits)
        writes += rdma.writes(r.rdma or {})
        return writes

    def _has(self, file: str) -> bool:
        return os.path.exists(f"{self._directory}/{file}")

    def _text(self, file: str) -> str:
        try:
            return group.read_file(f"{self._directory}/{file}")
        except OSError:
            return ""

    def _number(self, file: str) -> int | None:
        return group.read_number(f"{self._directory}/{file}")

    def _write_unified(self, files: dict[str, str]) -> None:
        """linux.resources.unified: any file of the group, several lines written one by one."""
        for name, value in files.items():
            if "/" in name:
                raise errdefs.InvalidArgument(f'unified resource "{name}" must be a file name (no slashes)')
            controller, dot, _ = name.partition(".")
            if not dot:
                raise errdefs.InvalidArgument(f'unified resource "{name}" must be in the form CONTROLLER.PARAMETER')
            if controller != "cgroup" and controller not in self._text("cgroup.controllers").split():
                text = f'unified resource "{name}" can\'t be set: controller "{controller}" not available'
                raise errdefs.InvalidArgument(text)
            group.write(self._directory, [Write(name, line) for line in value.splitlines() or [""]])

    def _limit_devices(self, rules: tuple[DeviceRule, ...]) -> None:
        if not rules:
            return
        try:
            devices_bpf.apply(self._directory, rules)
        except PermissionError as e:
            if _in_initial_user_namespace() and os.geteuid() == 0:
                raise _no_filter(e) from e
            # Who may not load a filter may not make device nodes either: those that are there are the host's choice.
        except OSError as e:
            raise _no_filter(e) from e

    def open_join_fds(self) -> list[int]:
        return [os.open(f"{self._directory}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)]

    def open_clone_fd(self) -> int | None:
        return os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def joinable(self, pid: int) -> "Group":
        """The group for a further process of the container: where its init is, when that has moved on below.

        An init that manages groups itself (systemd, another engine) leaves this one without processes, and once it
        has switched controllers on for its children none can be put here any more.
        """
        if not self._text("cgroup.subtree_control"):
            return self
        with suppress(OSError):
            for line in group.read_file(f"/proc/{pid}/cgroup").splitlines():
                own = self._mountpoint + line.removeprefix("0::")
                if line.startswith("0::") and own.startswith(self._directory + "/"):
                    return Group(self._mountpoint, own)
        return self

    def mount_sources(self) -> dict[str, str]:
        return {}

    def mount_options(self) -> dict[str, str]:
        return {}

    def unified(self) -> str:
        return self._directory

    def pids(self) -> list[int]:
        found: set[int] = set()
        for directory in group.tree(self._directory):
            try:
                found.update(int(pid) for pid in group.read_file(f"{directory}/cgroup.procs").split())
            except OSError:
                # EOPNOTSUPP: a threaded group, whose processes the one above lists; ENOENT: gone meanwhile
                continue
        return sorted(found - {0})

    def kill(self) -> bool:
        """SIGKILL for all in the group and below, at once: none forks away. False on kernels before 5.14."""
        try:
            group.write_file(f"{self._directory}/cgroup.kill", "1")
        except FileNotFoundError:
            return not os.path.isdir(self._directory)
        except OSError:  # EOPNOTSUPP: threaded
            return False
        return True

    def freeze(self) -> None:
        self._freezer(frozen=True)

    def thaw(self) -> None:
        self._freezer(frozen=False)

    def _freezer(self, *, frozen: bool) -> None:
        """The kernel says in cgroup.events when the last task has stopped, and wakes who polls that file."""
        wanted = "1" if frozen else "0"
        events = os.open(f"{self._directory}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        try:
            poll = select.poll()
            poll.register(events, select.POLLPRI)
            group.write_file(f"{self._directory}/cgroup.freeze", wanted)
            deadline = time.monotonic() + _FREEZE_TIMEOUT_S
            while f"frozen {wanted}" not in os.pread(events, 4096, 0).decode().splitlines():
                left = deadline - time.monotonic()
                if left <= 0:
                    group.write_file(f"{self._directory}/cgroup.freeze", "0")
                    raise errdefs.Unavailable("unable to freeze the container in time")
                poll.poll(min(left, 0.2) * 1000)
        finally:
            os.close(events)

    def is_frozen(self) -> bool:
        return self._text("cgroup.freeze") == "1"

    def oom_watch(self) -> int | None:
        """An fd that becomes readable when the group's memory events are counted on, or the group is removed."""
        try:
            return inotify.watch(f"{self._directory}/memory.events", inotify.IN_MODIFY)
        except OSError:
            return None

    def oom_kills(self) -> int:
        return group.flat(f"{self._directory}/memory.events").get("oom_kill", 0)

    def stats(self) -> Stats:
        return stats_v2.read(self._directory)

    def details(self) -> Details:
        return stats_v2.details()

    def destroy(self, *, end: bool) -> list[str]:
        if end:
            self.kill()
        return group.remove([self._directory], end=end)


def _ancestors(mountpoint: str, directory: str) -> list[str]:
    """The groups above `directory`, from the root group down."""
    found = []
    above = os.path.dirname(directory)
    while len(above) > len(mountpoint):
        found.append(above)
        above = os.path.dirname(above)
    return [mountpoint, *reversed(found)]


def _delegate(directory: str) -> None:
    """Switch every controller on for the groups below.

    All in one write as a rule; one by one where the kernel refuses (a threaded group has only some, a real-time process
    outside the root keeps `cpu` off). What then is missing shows when a limit of it is set.
    """
    try:
        available = group.read_file(f"{directory}/cgroup.controllers").split()
        missing = set(available) - set(group.read_file(f"{directory}/cgroup.subtree_control").split())
        if not missing:
            return
        wanted = [f"+{name}" for name in available if name in missing]
        group.write_file(f"{directory}/cgroup.subtree_control", " ".join(wanted))
    except OSError as e:
        if e.errno in (errno.ENOENT, errno.EROFS):
            raise
        for name in wanted:
            with suppress(OSError):
                group.write_file(f"{directory}/cgroup.subtree_control", name)


def _in_initial_user_namespace() -> bool:
    return group.read_file("/proc/self/uid_map").split() == ["0", "0", _NAMESPACE_WHOLE]


def _no_filter(error: OSError) -> errdefs.Error:
    return errdefs.InvalidArgument(f"failed to set the container's device filter: {(error.strerror or '').lower()}")

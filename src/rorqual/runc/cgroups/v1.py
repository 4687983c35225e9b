"""A container's groups on cgroup v1: one directory in every mounted hierarchy."""

import os
import time
from collections.abc import Callable
from contextlib import suppress

from rorqual import errdefs
from rorqual.linux.cgroups import Hierarchy
from rorqual.oci.runtime import Resources
from rorqual.runc.cgroups import blkio, cpu, cpuset, devices, group, hugetlb, memory, network, pids, rdma, stats_v1
from rorqual.runc.cgroups.settings import Write, Writes
from rorqual.runc.cgroups.stats import Details, Stats

_FREEZE_TIMEOUT_S = 10.0


class Group:
    """`directories`: hierarchy's first controller -> absolute directory, and so for the hierarchies that share it."""

    def __init__(self, hierarchies: tuple[Hierarchy, ...], directories: dict[str, str]) -> None:
        self._hierarchies = {h.controllers[0]: h for h in hierarchies}
        self._directories = directories
        self._by_controller = {
            controller: directories[h.controllers[0]]
            for h in hierarchies
            if h.controllers[0] in directories
            for controller in h.controllers
        }

    def directories(self) -> dict[str, str]:
        return self._directories

    def create(self, resources: Resources) -> None:
        for controller, directory in self._directories.items():
            mountpoint = self._hierarchies[controller].mountpoint
            for made in group.make_directories(mountpoint, directory):
                if "cpuset" in self._hierarchies[controller].controllers:
                    _inherit_cpuset(made, mountpoint)
        self._apply(resources, creating=True)

    def update(self, resources: Resources) -> None:
        self._apply(resources, creating=False)

    def planned(self, resources: Resources) -> Writes:
        """Quota and period both, when one of them changes: they mean something together only."""
        writes = [w for controller, decide in self._decisions(resources, creating=False) for w in decide()]
        bandwidth = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        given = {write.file for write in writes}.intersection(bandwidth)
        for file in bandwidth if given else ():
            present = group.read_number(f"{self._by_controller.get('cpu', '')}/{file}")
            if file not in given and present is not None:
                writes.append(Write(file, str(present)))
        return writes

    def _apply(self, resources: Resources, *, creating: bool) -> None:
        if resources.unified:
            raise errdefs.InvalidArgument("invalid config: linux.resources.unified needs cgroup v2, this host has v1")
        for controller, decide in self._decisions(resources, creating):
            writes = decide()
            if not writes:
                continue
            directory = self._by_controller.get(controller)
            if directory is None:
                raise errdefs.InvalidArgument(
                    f"cannot set {writes[0].file}: cgroup controller {controller} not mounted"
                )
            try:
                group.write(directory, writes)
            except errdefs.InvalidArgument:
                swapped = cpu.other_order(writes) if controller == "cpu" else None
                if swapped is None:
                    raise
                group.write(directory, swapped)

    def _decisions(self, r: Resources, creating: bool) -> list[tuple[str, Callable[[], Writes]]]:
        chosen: list[tuple[str, Callable[[], Writes]]] = []
        if r.memory is not None:
            limits = r.memory
            if limits.check_before_update:
                directory = self._by_controller.get("memory", "")
                memory.check_usage(limits.limit, group.read_number(f"{directory}/memory.usage_in_bytes"))
            chosen.append(("memory", lambda: memory.v1(limits, self._memsw())))
        if r.cpu is not None:
            processor = r.cpu
            chosen.append(("cpu", lambda: cpu.v1(processor)))
            chosen.append(("cpuset", lambda: cpuset.writes(processor)))
        if r.pids is not None:
            count = r.pids
            chosen.append(("pids", lambda: pids.writes(count)))
        if r.block_io is not None:
            io = r.block_io
            chosen.append(("blkio", lambda: blkio.v1(io, self._has_bfq())))
        if r.network is not None:
            net = r.network
            chosen.append(("net_cls", lambda: network.class_id(net)))
            chosen.append(("net_prio", lambda: network.priorities(net)))
        if r.rdma:
            rdma_limits = r.rdma
            chosen.append(("rdma", lambda: rdma.writes(rdma_limits)))
        if r.hugepage_limits:
            chosen.append(("hugetlb", lambda: hugetlb.v1(r.hugepage_limits)))
        if r.devices:
            rules = (*r.devices, *devices.DEFAULT_RULES) if creating else r.devices
            chosen.append(("devices", lambda: devices.v1(rules)))
        return chosen

    def _memsw(self) -> int | None:
        return group.read_number(f"{self._by_controller.get('memory', '')}/memory.memsw.limit_in_bytes")

    def _has_bfq(self) -> bool:
        return os.path.exists(f"{self._by_controller.get('blkio', '')}/blkio.bfq.weight")

    def open_join_fds(self) -> list[int]:
        """Of `tasks`: writing 0 there moves the writing thread without stopping every fork of the machine meanwhile."""
        fds: list[int] = []
        try:
            fds.extend(os.open(f"{d}/tasks", os.O_WRONLY | os.O_CLOEXEC) for d in self._directories.values())
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise
        return fds

    def open_clone_fd(self) -> int | None:
        return None

    def mount_sources(self) -> dict[str, str]:
        """What a `cgroup` mount shows: the hierarchy's directory name -> this container's directory in it."""
        return {self._hierarchies[c].name: directory for c, directory in self._directories.items()}

    def mount_options(self) -> dict[str, str]:
        """The hierarchy's directory name -> the option that mounts it afresh (in a cgroup namespace)."""
        chosen = {}
        for controller in self._directories:
            h = self._hierarchies[controller]
            named = any(c.startswith("name=") for c in h.controllers)
            chosen[h.name] = ",".join(("none", *h.controllers) if named and len(h.controllers) == 1 else h.controllers)
        return chosen

    def unified(self) -> str:
        return ""

    def joinable(self, pid: int) -> "Group":
        return self

    def kill(self) -> bool:
        return False

    def pids(self) -> list[int]:
        directory = self._by_controller.get("pids") or next(iter(self._directories.values()))
        return group.pids_below(directory)

    def freeze(self) -> None:
        self._freezer("FROZEN")

    def thaw(self) -> None:
        self._freezer("THAWED")

    def _freezer(self, state: str) -> None:
        directory = self._by_controller.get("freezer")
        if directory is None:
            raise errdefs.NotImplementedHere("cgroup controller freezer is not mounted")
        deadline = time.monotonic() + _FREEZE_TIMEOUT_S
        path = f"{directory}/freezer.state"
        while True:
            group.write_file(path, state)
            if group.read_file(path) == state:
                return
            if time.monotonic() > deadline:
                # A process that can't be stopped now (in the kernel) would keep the others half frozen.
                group.write_file(path, "THAWED")
                raise errdefs.Unavailable("unable to freeze the container in time")
            time.sleep(0.001)

    def is_frozen(self) -> bool:
        directory = self._by_controller.get("freezer")
        if directory is None:
            return False
        try:
            return group.read_file(f"{directory}/freezer.state") in ("FROZEN", "FREEZING")
        except OSError:
            return False

    def oom_watch(self) -> int | None:
        """An eventfd that becomes readable when the group is out of memory, or is removed."""
        directory = self._by_controller.get("memory")
        if directory is None:
            return None
        watch = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            control = os.open(f"{directory}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
            try:
                group.write_file(f"{directory}/cgroup.event_control", f"{watch} {control}")
            finally:
                os.close(control)
        except OSError:
            os.close(watch)
            return None
        return watch

    def oom_kills(self) -> int:
        """How many processes of the group the OOM killer has ended."""
        directory = self._by_controller.get("memory")
        if directory is None:
            return 0
        return group.flat(f"{directory}/memory.oom_control").get("oom_kill", 0)

    def stats(self) -> Stats:
        return stats_v1.read(self._by_controller)

    def details(self) -> Details:
        return stats_v1.details(self._by_controller)

    def destroy(self, *, end: bool) -> list[str]:
        if end and self.is_frozen():
            with suppress(OSError, errdefs.Error):
                self.thaw()  # a frozen process can't die
        return group.remove(self._directories.values(), end=end)


def _inherit_cpuset(directory: str, mountpoint: str) -> None:
    """A fresh v1 cpuset is empty and can hold nobody: start with the parent's.

    The parent may be as fresh: made a moment ago by another create that has not yet filled it.
    """
    parent = os.path.dirname(directory)
    for file in ("cpuset.cpus", "cpuset.mems"):
        if group.read_file(f"{directory}/{file}"):
            continue
        value = group.read_file(f"{parent}/{file}")
        if not value and parent != mountpoint:
            _inherit_cpuset(parent, mountpoint)
            value = group.read_file(f"{parent}/{file}")
        group.write_file(f"{directory}/{file}", value)

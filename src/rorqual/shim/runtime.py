"""The OCI runtime as the shim calls it: the built-in one in process, others through their command line.

Runs in the shim; `warm_up` in the spawner.
"""

from __future__ import annotations

import os
from typing import Protocol

from rorqual.oci import defaults
from rorqual.rpc import metrics, taskapi
from rorqual.runc import container as runc
from rorqual.runc import seccomp
from rorqual.runc.cgroups.stats import BlkioEntry, MemoryEntry, Stats
from rorqual.runc.rootfs.root import RootMount
from rorqual.shim.options import TaskOptions

Fds = tuple[int, int, int] | None


class Container(Protocol):
    """A created container. Its processes are this process's children, and this process reaps them.

    `console_fd` is the master of init's pty, taken over by the caller, or None. Methods raise errdefs errors.
    """

    pid: int
    console_fd: int | None
    shares_pid_namespace: bool

    def start(self) -> None:
        """Run the user's process."""

    def exec(self, spec: bytes, fds: Fds, *, terminal: bool) -> tuple[int, int | None]:
        """Add a process (runtime-spec process, JSON); its pid and the master of its pty."""

    def kill(self, signum: int, *, all_processes: bool = False) -> None:
        """Send a signal to init or to all. Raises NotFound when it has ended."""

    def pids(self) -> list[int]:
        """Its processes, as this process's pid namespace numbers them."""

    def pause(self) -> None:
        """Freeze every process."""

    def resume(self) -> None:
        """Thaw them."""

    def update(self, resources: bytes) -> None:
        """Change limits (runtime-spec linux.resources, JSON)."""

    def metrics(self) -> bytes:
        """An encoded io.containerd.cgroups.v1.Metrics."""

    def oom_watch(self) -> int | None:
        """A readable fd for each OOM event, owned by the caller; None where there is no memory controller."""

    def oom_killed(self) -> bool:
        """Whether the kernel has killed a process of it for want of memory."""

    def delete(self, *, force: bool = False) -> None:
        """Remove cgroups and state."""


class Runtime(Protocol):
    """What makes containers."""

    def create(
        self, container_id: str, bundle: str, fds: Fds, rootfs: list[taskapi.Mount], *, terminal: bool
    ) -> Container:
        """Create from bundle/config.json, `rootfs` mounted on bundle/rootfs. On failure nothing is left."""


def runtime_for(options: TaskOptions, root: str) -> Runtime:
    """The runtime that the task asks for; `root` is its state directory."""
    if options.runtime:
        from rorqual.shim.ociruntime import OCIRuntime

        return OCIRuntime(options.runtime, options.runtime_args, root)
    return _BuiltIn(root)


def warm_up() -> None:
    """Compile what nearly every container needs, once, before shims are forked from this process."""
    seccomp.preload(defaults.default_seccomp(defaults.CAPABILITIES, os.uname().machine))


class _BuiltIn:
    def __init__(self, root: str) -> None:
        self._root = root

    def create(
        self, container_id: str, bundle: str, fds: Fds, rootfs: list[taskapi.Mount], *, terminal: bool
    ) -> Container:
        with open(f"{bundle}/config.json", "rb") as file:
            spec = file.read()
        mounts = tuple(RootMount(m.type, m.source, tuple(m.options)) for m in rootfs)
        return _BuiltInContainer(
            runc.create(container_id, bundle, spec, root=self._root, stdio=fds, rootfs_mounts=mounts)
        )


class _BuiltInContainer:
    def __init__(self, container: runc.Container) -> None:
        self._container = container
        self.pid = container.pid
        self.console_fd = container.console_fd
        self.shares_pid_namespace = container.shares_pid_namespace

    def start(self) -> None:
        self._container.start()

    def exec(self, spec: bytes, fds: Fds, *, terminal: bool) -> tuple[int, int | None]:
        return self._container.exec(spec, stdio=fds)

    def kill(self, signum: int, *, all_processes: bool = False) -> None:
        self._container.kill(signum, all_processes)

    def pids(self) -> list[int]:
        return self._container.pids()

    def pause(self) -> None:
        self._container.pause()

    def resume(self) -> None:
        self._container.resume()

    def update(self, resources: bytes) -> None:
        self._container.update(resources)

    def metrics(self) -> bytes:
        return to_metrics(self._container.stats()).encode()

    def oom_watch(self) -> int | None:
        return self._container.oom_watch()

    def oom_killed(self) -> bool:
        return self._container.oom_kills() > 0

    def delete(self, *, force: bool = False) -> None:
        self._container.delete(force=force)


def to_metrics(stats: Stats) -> metrics.Metrics:
    """The runtime's figures in containerd's message."""
    cpu, memory = stats.cpu, stats.memory
    known = {f.name for f in metrics.MemoryStat.FIELDS if f.kind == "varint"}
    names = {"pgpgin": "pg_pg_in", "pgpgout": "pg_pg_out", "pgfault": "pg_fault", "pgmajfault": "pg_maj_fault"}
    raw: dict[str, int] = {}
    for key, value in memory.raw.items():
        total = key.startswith("total_")
        bare = names.get(key.removeprefix("total_"), key.removeprefix("total_"))
        name = {"hierarchical_memsw_limit": "hierarchical_swap_limit"}.get(bare, f"total_{bare}" if total else bare)
        if name in known:
            raw[name] = value
    return metrics.Metrics(
        pids=metrics.PidsStat(stats.pids.current, stats.pids.limit),
        cpu=metrics.CPUStat(
            metrics.CPUUsage(cpu.total_ns, cpu.kernel_ns, cpu.user_ns),
            metrics.Throttle(cpu.periods, cpu.throttled_periods, cpu.throttled_ns),
        ),
        memory=metrics.MemoryStat(
            **raw,
            usage=_entry(memory.usage),
            swap=_entry(memory.swap),
            kernel=_entry(memory.kernel),
            kernel_tcp=_entry(memory.kernel_tcp),
        ),
        blkio=metrics.BlkIOStat(
            io_service_bytes_recursive=[_blkio(e) for e in stats.blkio.service_bytes],
            io_serviced_recursive=[_blkio(e) for e in stats.blkio.serviced],
        ),
        memory_oom_control=metrics.MemoryOomControl(oom_kill=memory.oom_kills),
    )


def _entry(entry: MemoryEntry) -> metrics.MemoryEntry:
    return metrics.MemoryEntry(limit=entry.limit, usage=entry.usage, max=entry.max, failcnt=entry.failcnt)


def _blkio(entry: BlkioEntry) -> metrics.BlkIOEntry:
    return metrics.BlkIOEntry(op=entry.op, major=entry.major, minor=entry.minor, value=entry.value)

"""The OCI runtime as the shim calls it: the built-in one in process, others through their command line.

Runs in the shim; `warm_up` in the spawner.
"""

from __future__ import annotations

from rorqual.rpc import metrics, taskapi
from rorqual.runc import container as runc
from rorqual.runc.cgroups.stats import BlkioEntry, MemoryEntry, Stats
from rorqual.runc.rootfs.root import RootMount
from rorqual.runc.state import Directory
from rorqual.shim.forked import in_child
from rorqual.shim.options import TaskOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol
else:
    Protocol = object

Fds = tuple[int, int, int] | None


class Container(Protocol):
    """A created container. Its processes are this process's children, and this process reaps them.

    `console_fd` is the master of init's pty, taken over by the caller, or None. Methods raise errdefs errors;
    `exec_prefix` goes before the text of a failed exec.
    """

    exec_prefix: str
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
    """What makes containers. `create_prefix` goes before the text of a failed create."""

    create_prefix: str

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
    """Do what nearly every container needs, once, before shims are forked from this process."""
    runc.preload()


class _BuiltIn:
    """Whatever runs more than a few lines of the runtime does so in a child (rorqual.shim.forked says why)."""

    create_prefix = "runc create failed: "

    def __init__(self, root: str) -> None:
        self._root = root

    def create(
        self, container_id: str, bundle: str, fds: Fds, rootfs: list[taskapi.Mount], *, terminal: bool
    ) -> Container:
        def work() -> tuple[dict[str, Any], list[int]]:
            with open(f"{bundle}/config.json", "rb") as file:
                spec = file.read()
            mounts = tuple(RootMount(m.type, m.source, tuple(m.options)) for m in rootfs)
            made = runc.create(container_id, bundle, spec, root=self._root, stdio=fds, rootfs_mounts=mounts)
            watch = made.oom_watch()
            value = {"pid": made.pid, "shares_pid": made.shares_pid_namespace, "oom": watch is not None}
            return value, [fd for fd in (made.console_fd, watch) if fd is not None]

        value, received = in_child(work)
        watch = received.pop() if value["oom"] else None
        console = received.pop() if received else None
        return _BuiltInContainer(self._root, container_id, value, console, watch)


class _BuiltInContainer:
    exec_prefix = "exec failed: "

    def __init__(
        self, root: str, container_id: str, value: dict[str, Any], console: int | None, oom_watch: int | None
    ) -> None:
        self._root = root
        self._id = container_id
        self._oom_watch = oom_watch
        self.pid = int(value["pid"])
        self.console_fd = console
        self.shares_pid_namespace = bool(value["shares_pid"])

    def start(self) -> None:
        Directory(self._root, self._id).open_gate()

    def exec(self, spec: bytes, fds: Fds, *, terminal: bool) -> tuple[int, int | None]:
        def work() -> tuple[int, list[int]]:
            pid, console = self._load().exec(spec, stdio=fds)
            return pid, [] if console is None else [console]

        pid, received = in_child(work)
        return int(pid), received[0] if received else None

    def kill(self, signum: int, *, all_processes: bool = False) -> None:
        self._do(lambda container: container.kill(signum, all_processes))

    def pids(self) -> list[int]:
        pids: list[int] = self._do(lambda container: container.pids())
        return pids

    def pause(self) -> None:
        self._do(lambda container: container.pause())

    def resume(self) -> None:
        self._do(lambda container: container.resume())

    def update(self, resources: bytes) -> None:
        self._do(lambda container: container.update(resources))

    def metrics(self) -> bytes:
        encoded: str = self._do(lambda container: to_metrics(container.stats()).encode().hex())
        return bytes.fromhex(encoded)

    def oom_watch(self) -> int | None:
        return self._oom_watch

    def oom_killed(self) -> bool:
        return bool(self._do(lambda container: container.oom_kills() > 0))

    def delete(self, *, force: bool = False) -> None:
        self._do(lambda container: container.delete(force=force))

    def _load(self) -> runc.Container:
        return runc.load(self._id, self._root)

    def _do(self, action: Callable[[runc.Container], Any]) -> Any:
        return in_child(lambda: (action(self._load()), []))[0]


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

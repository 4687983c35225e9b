"""The OCI runtime as the shim calls it: the built-in one in process, others through their command line.

Runs in the shim; `warm_up` in the spawner.
"""

from __future__ import annotations

from rorqual.rpc import taskapi
from rorqual.runc import container as runc
from rorqual.runc.rootfs.root import RootMount
from rorqual.runc.state import Directory
from rorqual.shim import meter
from rorqual.shim.forked import in_child
from rorqual.shim.meter import Meter
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
    meter.warm_up()


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
            made = runc.create(
                container_id, bundle, spec, root=self._root, stdio=fds, rootfs_mounts=mounts, systemd=None
            )
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
        self._meter = Meter(lambda: self._do(lambda container: container.record.groups))
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
        return self._meter.read()

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

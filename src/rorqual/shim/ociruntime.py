"""Another OCI runtime (`--runtime runc`, crun ...) behind the shim: its command line, run to completion for each call.

The container's processes come to this shim as the subreaper, so exits are seen as with the built-in runtime.
Source: runc(8) and the OCI runtime command line interface document.
"""

from __future__ import annotations

import json
import os
import signal
import socket

from rorqual import errdefs
from rorqual.rpc import taskapi
from rorqual.runc.cgroups import locate
from rorqual.runc.cgroups.group import Group
from rorqual.shim.forked import in_child
from rorqual.shim.loop import log
from rorqual.shim.meter import Meter
from rorqual.shim.rootfs import mount_rootfs, unmount_rootfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

_OUTPUT_MAX = 1 << 20
Fds = tuple[int, int, int] | None


class OCIRuntime:
    """A runtime binary. `args` go before the command, as `--add-runtime`'s runtimeArgs do."""

    create_prefix = ""  # the runtime's messages say it themselves

    def __init__(self, binary: str, args: Sequence[str], root: str) -> None:
        self._binary = binary
        self._args = list(args)
        self._root = root

    def create(
        self, container_id: str, bundle: str, fds: Fds, rootfs: list[taskapi.Mount], *, terminal: bool
    ) -> OCIContainer:
        """Create the container; see shim.runtime.Runtime."""
        spec = _prepare_spec(f"{bundle}/config.json")
        mount_rootfs(bundle, rootfs)
        container = OCIContainer(self, container_id, bundle, spec)
        try:
            container.create(fds, terminal=terminal)
        except BaseException:
            self._undo(container)
            raise
        return container

    def _undo(self, container: OCIContainer) -> None:
        """What a failed create left; most runtimes have removed it themselves, and say so."""
        try:
            container.delete(force=True)
        except errdefs.Error as e:
            log(f"after a failed create: {e}")

    def call(self, bundle: str, *args: str, fds: Fds = None) -> bytes:
        """Run one command; its stdout unless `fds` are its stdio. Raises errdefs.Error, the runtime's own message."""
        log_path = f"{bundle}/runtime.log"
        _truncate(log_path)  # so that an error found there is this command's
        argv = [self._binary, "--root", self._root, "--log", log_path, "--log-format", "json", *self._args, *args]
        read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            stdin, stdout, stderr = fds or (null, write_fd, null)
            try:
                pid = os.posix_spawn(
                    self._binary,
                    argv,
                    os.environ,
                    file_actions=[
                        (os.POSIX_SPAWN_DUP2, stdin, 0),
                        (os.POSIX_SPAWN_DUP2, stdout, 1),
                        (os.POSIX_SPAWN_DUP2, stderr, 2),
                    ],
                    setsigdef=[signal.SIGPIPE, signal.SIGCHLD],
                )
            except OSError as e:
                raise errdefs.InvalidArgument(f"runtime {self._binary}: {e.strerror}") from e
            os.close(write_fd)
            write_fd = -1
            output = b"" if fds else _read_all(read_fd)
            _, status = os.waitpid(pid, 0)
        finally:
            for fd in (read_fd, write_fd, null):
                if fd >= 0:
                    os.close(fd)
        if status != 0:
            command = next(word for word in args if not word.startswith("-"))
            raise errdefs.Error(_last_error(log_path) or f"{os.path.basename(self._binary)} {command} failed")
        return output


class OCIContainer:
    """A container of another runtime; see shim.runtime.Container.

    Limits and life are the runtime's business; what is only read (processes, figures, OOM kills) comes from the cgroups
    that the spec names, because not every runtime has a command for it (crun has no `events`).
    """

    exec_prefix = ""  # the runtime's messages say it themselves

    def __init__(self, runtime: OCIRuntime, container_id: str, bundle: str, spec: dict[str, Any]) -> None:
        self.id = container_id
        self.pid = 0
        self.console_fd: int | None = None
        linux = spec.get("linux") or {}
        kinds = {n.get("type") for n in linux.get("namespaces") or () if not n.get("path")}
        self.shares_pid_namespace = "pid" not in kinds
        self._cgroups_path = str(linux.get("cgroupsPath") or "")
        self._is_unit = locate.names_a_unit(self._cgroups_path)
        self._runtime = runtime
        self._bundle = bundle
        self._meter = Meter(lambda: self._of_group(lambda group: group.directories()))

    def create(self, fds: Fds, *, terminal: bool) -> None:
        """Run `create` and read its pid file."""
        pid_file = f"{self._bundle}/init.pid"
        args = ["create", "--bundle", self._bundle, "--pid-file", pid_file]
        self.console_fd = self._with_console(terminal, fds, args, [self.id])
        self.pid = _read_pid(pid_file)

    def start(self) -> None:
        """Run the container's process."""
        self._call("start", self.id)

    def exec(self, spec: bytes, fds: Fds, *, terminal: bool) -> tuple[int, int | None]:
        """Add a process; (pid, pty master)."""
        path, pid_file = f"{self._bundle}/exec.json", f"{self._bundle}/exec.pid"
        with open(path, "wb") as file:
            file.write(spec)
        args = ["exec", "--detach", "--process", path, "--pid-file", pid_file]
        console = self._with_console(terminal, fds, args, [self.id])
        return _read_pid(pid_file), console

    def kill(self, signum: int, *, all_processes: bool = False) -> None:
        """Send a signal; a frozen container is thawed by SIGKILL, or it could not die."""

        def work(group: Group) -> bool:
            for pid in group.pids() if all_processes else [self.pid]:
                try:
                    os.kill(pid, signum)
                except ProcessLookupError:
                    continue  # it ended by itself
            if signum == signal.SIGKILL and group.is_frozen():
                group.thaw()
            return True

        self._of_group(work)

    def pids(self) -> list[int]:
        """Its processes."""
        pids: list[int] = self._of_group(lambda group: group.pids())
        return pids

    def pause(self) -> None:
        """Freeze it."""
        self._call("pause", self.id)

    def resume(self) -> None:
        """Thaw it."""
        self._call("resume", self.id)

    def update(self, resources: bytes) -> None:
        """Change its limits."""
        path = f"{self._bundle}/resources.json"
        with open(path, "wb") as file:
            file.write(resources)
        self._call("update", "--resources", path, self.id)

    def metrics(self) -> bytes:
        """Its figures."""
        return self._meter.read()

    def oom_watch(self) -> int | None:
        """An eventfd of its memory cgroup."""

        def work() -> tuple[bool, list[int]]:
            fd = self._group().oom_watch()
            return fd is not None, [] if fd is None else [fd]

        try:
            received = in_child(work)[1]
        except errdefs.Error:
            return None  # a runtime that keeps its cgroups elsewhere
        return received[0] if received else None

    def oom_killed(self) -> bool:
        """Whether the kernel has killed a process of it for want of memory."""
        return bool(self._of_group(lambda group: group.oom_kills() > 0))

    def delete(self, *, force: bool = False) -> None:
        """Remove it; one that is gone is no error."""
        try:
            self._call("delete", *(["--force"] if force else []), self.id)
        finally:
            unmount_rootfs(self._bundle)

    def _group(self) -> Group:
        if not self._is_unit:
            return locate.new(self._cgroups_path, self.id)
        from rorqual.runc.systemd import names

        return locate.at(names.unit(self._cgroups_path, self.id, of_user=False).path)

    def _of_group(self, work: Callable[[Group], Any]) -> Any:
        return in_child(lambda: (work(self._group()), []))[0]

    def _call(self, *args: str) -> bytes:
        return self._runtime.call(self._bundle, *self._global(), *args)

    def _global(self) -> list[str]:
        return ["--systemd-cgroup"] if self._is_unit else []

    def _with_console(self, terminal: bool, fds: Fds, args: list[str], operands: list[str]) -> int | None:
        if not terminal:
            self._runtime.call(self._bundle, *self._global(), *args, *operands, fds=fds)
            return None
        # The runtime connects by path, which must fit sun_path: name it through our fd of the bundle.
        directory = os.open(self._bundle, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        short = f"/proc/{os.getpid()}/fd/{directory}/console.sock"
        try:
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(short)
                listener.listen(1)
                self._runtime.call(self._bundle, *self._global(), *args, "--console-socket", short, *operands)
                listener.settimeout(10)
                connection, _ = listener.accept()
                with connection:
                    connection.settimeout(10)
                    _, received, _, _ = socket.recv_fds(connection, 4096, 1)
            if not received:
                raise errdefs.Internal("the runtime sent no terminal")
            return received[0]
        finally:
            try:
                os.unlink("console.sock", dir_fd=directory)
            except FileNotFoundError:
                pass  # bind failed
            os.close(directory)


# runtime-spec 1.1 and later brought these; documents without them are 1.0.2's, which every runtime accepts.
_NEWER_LINUX = frozenset({"timeOffsets", "netDevices", "memoryPolicy"})
_NEWER_PROCESS = frozenset({"scheduler", "ioPriority", "execCPUAffinity"})


def _prepare_spec(path: str) -> dict[str, Any]:
    """The bundle's spec, its ociVersion the least that describes it: crun before 1.9 knows no other than 1.0."""
    with open(path, "rb") as file:
        spec: dict[str, Any] = json.load(file)
    newer = _NEWER_LINUX & (spec.get("linux") or {}).keys() or _NEWER_PROCESS & (spec.get("process") or {}).keys()
    mapped = any(m.get("uidMappings") or m.get("gidMappings") for m in spec.get("mounts") or ())
    if not newer and not mapped and "domainname" not in spec:
        spec["ociVersion"] = "1.0.2"
        with open(path + ".tmp", "w", encoding="utf-8") as file:
            json.dump(spec, file)
        os.rename(path + ".tmp", path)
    return spec


def _truncate(path: str) -> None:
    try:
        os.truncate(path, 0)
    except FileNotFoundError:
        return  # the first command


def _read_all(fd: int) -> bytes:
    out = bytearray()
    while len(out) < _OUTPUT_MAX and (data := os.read(fd, 65536)):
        out += data
    return bytes(out)


def _read_pid(path: str) -> int:
    try:
        with open(path) as file:
            return int(file.read())
    except (OSError, ValueError) as e:
        raise errdefs.Internal(f"pid file {path}: {e}") from e


def _last_error(path: str) -> str:
    """The last error in a runtime's JSON log."""
    try:
        with open(path, errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("level") in ("error", "fatal"):
            return str(entry.get("msg", ""))
    return ""

"""containerd.task.v3.Task over one container: the shim's state machine.

The built-in runtime is called in process (rorqual.runc). Everything runs on the loop's one thread, so that no call
needs a lock; a call that waits (Wait) keeps its reply for later.
"""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Callable

from rorqual import errdefs
from rorqual.rpc import taskapi
from rorqual.rpc.wire import Any_, Empty, Message
from rorqual.shim import logdrivers
from rorqual.shim.loop import IN, Loop, log
from rorqual.shim.options import TaskOptions
from rorqual.shim.process import ChildStdio, Process
from rorqual.shim.rpcserver import Method
from rorqual.shim.runtime import Container, Runtime
from rorqual.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rorqual.shim.health import Monitor

METRICS_URL = "io.containerd.cgroups.v1.Metrics"
Reply = Callable[[Message], None]


class TaskService:
    """One container.

    `bundle` is its directory, `runtime` chooses what runs it, `on_oom` is called at an OOM kill, `on_health` when its
    health has changed, `shutdown` ends it.
    """

    def __init__(
        self,
        loop: Loop,
        container_id: str,
        bundle: str,
        runtime: Callable[[TaskOptions], Runtime],
        *,
        on_oom: Callable[[], None],
        on_health: Callable[[], None],
        shutdown: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._id = container_id
        self._bundle = bundle
        self._runtime_for = runtime
        self._on_oom = on_oom
        self._on_health = on_health
        self._shutdown = shutdown
        self._container: Container | None = None
        self._options = TaskOptions()
        self._processes: dict[str, Process] = {}
        self._oom_fd = -1
        self._oom_signalled = False
        self._oom_seen = False
        self._health: Monitor | None = None
        self._children: dict[int, Callable[[int], None]] = {}  # other children of ours than the container's processes
        loop.on_child(self.reap)

    @property
    def idle(self) -> bool:
        """No task was created, or it was deleted."""
        return not self._processes

    def methods(self) -> dict[str, Method]:
        """The service's methods by name."""
        return {
            "State": Method(taskapi.StateRequest, self._state),
            "Create": Method(taskapi.CreateTaskRequest, self._create),
            "Start": Method(taskapi.StartRequest, self._start),
            "Delete": Method(taskapi.DeleteRequest, self._delete),
            "Pids": Method(taskapi.PidsRequest, self._pids),
            "Pause": Method(taskapi.PauseRequest, self._pause),
            "Resume": Method(taskapi.ResumeRequest, self._resume),
            "Checkpoint": Method(taskapi.CheckpointTaskRequest, self._checkpoint),
            "Kill": Method(taskapi.KillRequest, self._kill),
            "Exec": Method(taskapi.ExecProcessRequest, self._exec),
            "ResizePty": Method(taskapi.ResizePtyRequest, self._resize),
            "CloseIO": Method(taskapi.CloseIORequest, self._close_io),
            "Update": Method(taskapi.UpdateTaskRequest, self._update),
            "Wait": Method(taskapi.WaitRequest, self._wait),
            "Stats": Method(taskapi.StatsRequest, self._stats),
            "Connect": Method(taskapi.ConnectRequest, self._connect),
            "Shutdown": Method(taskapi.ShutdownRequest, self._shut_down),
        }

    def find(self, exec_id: str) -> Process:
        """The process. Raises NotFound."""
        process = self._processes.get(exec_id)
        if process is None:
            what = f"process {exec_id}" if exec_id else f"container {self._id}"
            raise errdefs.NotFound(f"{what} not found")
        return process

    # ---- lifecycle ----

    def _create(self, request: taskapi.CreateTaskRequest, reply: Reply) -> None:
        if self._processes:
            raise errdefs.AlreadyExists(f"task {self._id} already exists")
        if request.checkpoint:
            raise errdefs.NotImplementedHere("restoring from a checkpoint is not supported")
        self._options = options = TaskOptions.parse(request.options)
        init = Process("", request.terminal, request.stdin, request.stdout, request.stderr)
        driver = self._open_log(options) if init.owns_streams() else None
        child = ChildStdio(self._loop, init, driver, stdin=options.open_stdin, close_stdin=options.stdin_once)
        runtime = self._runtime_for(options)
        try:
            container = runtime.create(self._id, self._bundle, child.fds, request.rootfs, terminal=request.terminal)
        except Exception as e:
            child.close()
            if init.stdio is not None:
                init.stdio.close()
            raise _wrapped(e, f"OCI runtime create failed: {runtime.create_prefix}") from e
        child.started(container.console_fd)
        if options.console_size is not None and container.console_fd is not None:
            _set_size(init, *options.console_size)
        init.pid = container.pid
        self._container = container
        self._processes[""] = init
        self._watch_oom(container)
        reply(taskapi.CreateTaskResponse(pid=init.pid))

    def _open_log(self, options: TaskOptions) -> logdrivers.LogDriver | None:
        try:
            return logdrivers.open_driver(options.log, self._loop)
        except errdefs.Error as e:
            raise type(e)(f"failed to initialize logging driver: {e}") from e

    def _start(self, request: taskapi.StartRequest, reply: Reply) -> None:
        process = self.find(request.exec_id)
        container = self._need_container()
        if process.status != taskapi.CREATED:
            raise errdefs.Conflict(f"cannot start a process in state {_status_name(process.status)}")
        if not request.exec_id:
            try:
                container.start()
            except Exception as e:
                raise _wrapped(e, "OCI runtime start failed: ") from e
        else:
            self._start_exec(container, process)
        process.status = taskapi.RUNNING
        if not request.exec_id:
            self._begin_health(container)
        reply(taskapi.StartResponse(pid=process.pid))

    def _begin_health(self, container: Container) -> None:
        if self._options.health is None:
            return
        from rorqual.shim import health, probes  # most containers have no check, and their shims no use for this

        self._health = health.Monitor(
            self._loop,
            health.HealthOptions.parse(self._options.health),
            f"{self._bundle}/health",
            probes.spawner(self._options.health["probe"], container),
            self._children.__setitem__,
            self._on_health,
        )
        self._health.start()

    def _start_exec(self, container: Container, process: Process) -> None:
        child = ChildStdio(self._loop, process, None, stdin=True, close_stdin=True)
        try:
            pid, console = container.exec(process.spec, child.fds, terminal=process.terminal)
        except Exception as e:
            child.close()
            self._processes.pop(process.exec_id, None)
            if process.stdio is not None:
                process.stdio.close()
            raise _wrapped(e, f"OCI runtime exec failed: {container.exec_prefix}") from e
        child.started(console)
        process.pid = pid

    def _exec(self, request: taskapi.ExecProcessRequest, reply: Reply) -> None:
        self._need_container()
        if not self.find("").running:
            raise errdefs.Conflict(f"task {self._id} is not running")
        if not request.exec_id:
            raise errdefs.InvalidArgument("exec: no exec_id")
        if request.exec_id in self._processes:
            raise errdefs.AlreadyExists(f"process {request.exec_id} already exists")
        process = Process(
            request.exec_id,
            request.terminal,
            request.stdin,
            request.stdout,
            request.stderr,
            spec=request.spec.value if request.spec else b"{}",
        )
        process.open_hub(self._loop, close_stdin=True)
        self._processes[request.exec_id] = process
        reply(Empty())

    def _delete(self, request: taskapi.DeleteRequest, reply: Reply) -> None:
        process = self.find(request.exec_id)
        if process.status not in (taskapi.STOPPED, taskapi.CREATED):
            raise errdefs.Conflict(f"cannot delete a {_status_name(process.status)} process: {self._id}")
        if not request.exec_id and self._container is not None:
            self._end_oom_watch()  # removing the cgroup would signal it
            self._container.delete(force=True)
            self._container = None
        del self._processes[request.exec_id]
        if process.stdio is not None:
            process.stdio.close()
        reply(taskapi.DeleteResponse(process.pid, process.exit_status, taskapi.Timestamp.from_ns(process.exited_at_ns)))

    def reap(self) -> None:
        """Collect every child that ended: the container's processes, and orphans that came to this subreaper."""
        by_pid = {p.pid: p for p in self._processes.values() if p.pid and not p.exited_at_ns}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            process = by_pid.get(pid)
            if process is not None:
                self._exited(process, status)
            elif pid in self._children:
                self._children.pop(pid)(status)

    def _exited(self, process: Process, wait_status: int) -> None:
        container = self._container
        if not process.exec_id and container is not None and container.shares_pid_namespace:
            # nobody else ends the other processes when init was not a pid namespace's first
            try:
                container.kill(9, all_processes=True)
            except errdefs.Error as e:
                log(f"kill of what is left: {e}")
        if not process.exec_id:
            if self._health is not None:
                self._health.stop()
            self._check_oom()

        process.exited(wait_status)
        if not process.exec_id:
            self._write_exit_file(process)

    def _write_exit_file(self, process: Process) -> None:
        """For a containerd that finds this shim killed: the status survives in the bundle."""
        path = f"{self._bundle}/exit"
        exit_ = {"pid": process.pid, "status": process.exit_status, "exited_at": process.exited_at_ns}
        try:
            with open(path + ".tmp", "w") as file:
                json.dump(exit_, file)
            os.rename(path + ".tmp", path)
        except OSError as e:
            log(f"{path}: {e}")

    def _shut_down(self, request: taskapi.ShutdownRequest, reply: Reply) -> None:
        if not request.now and self._processes:
            reply(Empty())  # containerd asks after every Delete; only the last one ends the shim
            return
        reply(Empty())
        self._shutdown()

    # ---- the running container ----

    def _kill(self, request: taskapi.KillRequest, reply: Reply) -> None:
        process = self.find(request.exec_id)
        if not process.pid or process.exited_at_ns:
            raise errdefs.NotFound("process already finished")
        if request.all or (process.status == taskapi.PAUSED and request.signal == signal.SIGKILL):
            self._need_container().kill(request.signal, all_processes=request.all)  # it thaws what it kills
        else:
            os.kill(process.pid, request.signal)  # our unreaped child: the pid cannot have been reused
        reply(Empty())

    def _pause(self, _request: taskapi.PauseRequest, reply: Reply) -> None:
        self._need_container().pause()
        if self._health is not None:
            self._health.stop()
        self.find("").status = taskapi.PAUSED
        reply(Empty())

    def _resume(self, _request: taskapi.ResumeRequest, reply: Reply) -> None:
        self._need_container().resume()
        self.find("").status = taskapi.RUNNING
        if self._health is not None:
            self._health.start()
        reply(Empty())

    def _update(self, request: taskapi.UpdateTaskRequest, reply: Reply) -> None:
        self._need_container().update(request.resources.value if request.resources else b"{}")
        reply(Empty())

    def _pids(self, _request: taskapi.PidsRequest, reply: Reply) -> None:
        pids = self._need_container().pids()
        reply(taskapi.PidsResponse([taskapi.ProcessInfo(pid) for pid in pids]))

    def _stats(self, _request: taskapi.StatsRequest, reply: Reply) -> None:
        reply(taskapi.StatsResponse(Any_(METRICS_URL, self._need_container().metrics())))

    def _checkpoint(self, _request: taskapi.CheckpointTaskRequest, _reply: Reply) -> None:
        raise errdefs.NotImplementedHere("checkpoint is not supported")

    # ---- the caller's view ----

    def _state(self, request: taskapi.StateRequest, reply: Reply) -> None:
        p = self.find(request.exec_id)
        reply(
            taskapi.StateResponse(
                id=self._id,
                bundle=self._bundle,
                pid=p.pid,
                status=p.status,
                stdin=p.stdin,
                stdout=p.stdout,
                stderr=p.stderr,
                terminal=p.terminal,
                exit_status=p.exit_status,
                exited_at=taskapi.Timestamp.from_ns(p.exited_at_ns) if p.exited_at_ns else None,
                exec_id=p.exec_id,
            )
        )

    def _wait(self, request: taskapi.WaitRequest, reply: Reply) -> None:
        self.find(request.exec_id).wait(reply)

    def _connect(self, _request: taskapi.ConnectRequest, reply: Reply) -> None:
        init = self._processes.get("")
        reply(taskapi.ConnectResponse(os.getpid(), init.pid if init else 0, __version__))

    def _resize(self, request: taskapi.ResizePtyRequest, reply: Reply) -> None:
        _set_size(self.find(request.exec_id), request.height, request.width)
        reply(Empty())

    def _close_io(self, request: taskapi.CloseIORequest, reply: Reply) -> None:
        if request.stdin:
            self.find(request.exec_id).close_stdin()
        reply(Empty())

    def _need_container(self) -> Container:
        if self._container is None:
            raise errdefs.Conflict(f"container {self._id} must be created")
        return self._container

    def _watch_oom(self, container: Container) -> None:
        fd = container.oom_watch()
        if fd is None:
            return

        self._oom_fd = fd
        self._loop.add(fd, IN, lambda _events: self._oom())

    def _oom(self) -> None:
        """The watch is readable: an OOM event, or the cgroup went."""
        os.read(self._oom_fd, 4096)
        self._oom_signalled = True
        self._look_for_oom()

    def _look_for_oom(self) -> None:
        if self._container is not None and not self._oom_seen and self._container.oom_killed():
            self._oom_seen = True
            self._on_oom()

    def _check_oom(self) -> None:
        """Before an exit is reported, an OOM kill that caused it is.

        The kernel signals that memory has run out before it kills: a look at that moment may have come too early.
        """
        if self._oom_fd < 0:
            return
        if select.select([self._oom_fd], [], [], 0)[0]:
            self._oom()
        elif self._oom_signalled:
            self._look_for_oom()

    def _end_oom_watch(self) -> None:
        if self._oom_fd >= 0:
            self._loop.remove(self._oom_fd)
            os.close(self._oom_fd)
            self._oom_fd = -1


def _set_size(process: Process, height: int, width: int) -> None:
    if process.stdio is not None and process.terminal:
        process.stdio.resize(height, width)


def _status_name(status: int) -> str:
    return ("unknown", "created", "running", "stopped", "paused", "pausing")[status]


def _wrapped(error: Exception, prefix: str) -> Exception:
    """The error with containerd's prefix; its class is kept, so that its status code is."""
    text = f"{prefix}{error}"
    if not isinstance(error, errdefs.Error):
        return errdefs.Error(text + ": unknown")
    wrapped: Any = type(error)(text + ("" if type(error) is not errdefs.Error else ": unknown"))
    return wrapped  # type: ignore[no-any-return]

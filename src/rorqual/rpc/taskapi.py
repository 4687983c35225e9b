"""Messages of containerd.task.v3.Task, the ttrpc service of a shim, as the wire module's classes.

Source: containerd's api/runtime/task/v3 (names and field numbers), types/task, types/mount.
"""

from __future__ import annotations

from rorqual.rpc.wire import Any_, Empty, Field, Message, Timestamp, message

__all__ = ["Any_", "Empty", "Timestamp"]

# containerd.v1.types.Status
UNKNOWN, CREATED, RUNNING, STOPPED, PAUSED, PAUSING = range(6)


@message
class Mount(Message):
    """containerd.types.Mount: as mount(8) would take it."""

    type: str = ""
    source: str = ""
    target: str = ""
    options: list[str] = []
    FIELDS = (
        Field(1, "type", "string"),
        Field(2, "source", "string"),
        Field(3, "target", "string"),
        Field(4, "options", "string", True),
    )


@message
class ProcessInfo(Message):
    """containerd.v1.types.ProcessInfo."""

    pid: int = 0
    info: Any_ | None = None
    FIELDS = (Field(1, "pid", "varint"), Field(2, "info", Any_))


@message
class CreateTaskRequest(Message):
    """Create a container's task from its bundle; `rootfs` is mounted on the bundle's rootfs."""

    id: str = ""
    bundle: str = ""
    rootfs: list[Mount] = []
    terminal: bool = False
    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    checkpoint: str = ""
    parent_checkpoint: str = ""
    options: Any_ | None = None
    FIELDS = (
        Field(1, "id", "string"),
        Field(2, "bundle", "string"),
        Field(3, "rootfs", Mount, True),
        Field(4, "terminal", "bool"),
        Field(5, "stdin", "string"),
        Field(6, "stdout", "string"),
        Field(7, "stderr", "string"),
        Field(8, "checkpoint", "string"),
        Field(9, "parent_checkpoint", "string"),
        Field(10, "options", Any_),
    )


@message
class CreateTaskResponse(Message):
    """`pid` of init, in the shim's pid namespace."""

    pid: int = 0
    FIELDS = (Field(1, "pid", "varint"),)


@message
class DeleteRequest(Message):
    """Delete a stopped task (exec_id empty) or exec."""

    id: str = ""
    exec_id: str = ""
    FIELDS = (
        Field(1, "id", "string"),
        Field(2, "exec_id", "string"),
    )


@message
class DeleteResponse(Message):
    """How the process ended."""

    pid: int = 0
    exit_status: int = 0
    exited_at: Timestamp | None = None
    FIELDS = (
        Field(1, "pid", "varint"),
        Field(2, "exit_status", "varint"),
        Field(3, "exited_at", Timestamp),
    )


@message
class ExecProcessRequest(Message):
    """Add a process to a task; it runs at Start. `spec` is a runtime-spec process, JSON."""

    id: str = ""
    exec_id: str = ""
    terminal: bool = False
    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    spec: Any_ | None = None
    FIELDS = (
        Field(1, "id", "string"),
        Field(2, "exec_id", "string"),
        Field(3, "terminal", "bool"),
        Field(4, "stdin", "string"),
        Field(5, "stdout", "string"),
        Field(6, "stderr", "string"),
        Field(7, "spec", Any_),
    )


@message
class ResizePtyRequest(Message):
    """Size in character cells."""

    id: str = ""
    exec_id: str = ""
    width: int = 0
    height: int = 0
    FIELDS = (
        Field(1, "id", "string"),
        Field(2, "exec_id", "string"),
        Field(3, "width", "varint"),
        Field(4, "height", "varint"),
    )


@message
class StateRequest(Message):
    """Ask for a process's state."""

    id: str = ""
    exec_id: str = ""
    FIELDS = (
        Field(1, "id", "string"),
        Field(2, "exec_id", "string"),
    )


@message
class StateResponse(Message):
    """A process's state."""

    id: str = ""
    bundle: str = ""
    pid: int = 0
    status: int = 0
    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    terminal: bool = False
    exit_status: int = 0
    exited_at: Timestamp | None = None
    exec_id: str = ""
    FIELDS = (
        Field(1, "id", "string"),
        Field(2, "bundle", "string"),
        Field(3, "pid", "varint"),
        Field(4, "status", "varint"),
        Field(5, "stdin", "string"),
        Field(6, "stdout", "string"),
        Field(7, "stderr", "string"),
        Field(8, "terminal", "bool"),
        Field(9, "exit_status", "varint"),
        Field(10, "exited_at", Timestamp),
        Field(11, "exec_id", "string"),
    )


@message
class KillRequest(Message):
    """Send a signal; `all`: to every process of the container."""

    id: str = ""
    exec_id: str = ""
    signal: int = 0
    all: bool = False
    FIELDS = (
        Field(1, "id", "string"),
        Field(2, "exec_id", "string"),
        Field(3, "signal", "varint"),
        Field(4, "all", "bool"),
    )


@message
class CloseIORequest(Message):
    """Close the process's stdin."""

    id: str = ""
    exec_id: str = ""
    stdin: bool = False
    FIELDS = (
        Field(1, "id", "string"),
        Field(2, "exec_id", "string"),
        Field(3, "stdin", "bool"),
    )


@message
class PidsRequest(Message):
    """Ask for the task's processes."""

    id: str = ""
    FIELDS = (Field(1, "id", "string"),)


@message
class PidsResponse(Message):
    """The task's processes."""

    processes: list[ProcessInfo] = []
    FIELDS = (Field(1, "processes", ProcessInfo, True),)


@message
class CheckpointTaskRequest(Message):
    """Checkpoint the task into `path`."""

    id: str = ""
    path: str = ""
    options: Any_ | None = None
    FIELDS = (
        Field(1, "id", "string"),
        Field(2, "path", "string"),
        Field(3, "options", Any_),
    )


@message
class UpdateTaskRequest(Message):
    """Change limits; `resources` is a runtime-spec linux.resources, JSON."""

    id: str = ""
    resources: Any_ | None = None
    annotations: dict[str, str] = {}
    FIELDS = (
        Field(1, "id", "string"),
        Field(2, "resources", Any_),
        Field(3, "annotations", "map"),
    )


@message
class StartRequest(Message):
    """Start init or an exec."""

    id: str = ""
    exec_id: str = ""
    FIELDS = (
        Field(1, "id", "string"),
        Field(2, "exec_id", "string"),
    )


@message
class StartResponse(Message):
    """The process's pid."""

    pid: int = 0
    FIELDS = (Field(1, "pid", "varint"),)


@message
class WaitRequest(Message):
    """Answered when the process has ended."""

    id: str = ""
    exec_id: str = ""
    FIELDS = (
        Field(1, "id", "string"),
        Field(2, "exec_id", "string"),
    )


@message
class WaitResponse(Message):
    """How the process ended."""

    exit_status: int = 0
    exited_at: Timestamp | None = None
    FIELDS = (
        Field(1, "exit_status", "varint"),
        Field(2, "exited_at", Timestamp),
    )


@message
class StatsRequest(Message):
    """Ask for the cgroup's figures."""

    id: str = ""
    FIELDS = (Field(1, "id", "string"),)


@message
class StatsResponse(Message):
    """`stats`: Any of io.containerd.cgroups.v1.Metrics."""

    stats: Any_ | None = None
    FIELDS = (Field(1, "stats", Any_),)


@message
class ConnectRequest(Message):
    """Ask for the shim's and task's pids."""

    id: str = ""
    FIELDS = (Field(1, "id", "string"),)


@message
class ConnectResponse(Message):
    """Pids and the shim's version."""

    shim_pid: int = 0
    task_pid: int = 0
    version: str = ""
    FIELDS = (
        Field(1, "shim_pid", "varint"),
        Field(2, "task_pid", "varint"),
        Field(3, "version", "string"),
    )


@message
class ShutdownRequest(Message):
    """End the shim when it has no task; `now`: whatever it has."""

    id: str = ""
    now: bool = False
    FIELDS = (
        Field(1, "id", "string"),
        Field(2, "now", "bool"),
    )


@message
class PauseRequest(Message):
    """Freeze the task."""

    id: str = ""
    FIELDS = (Field(1, "id", "string"),)


@message
class ResumeRequest(Message):
    """Thaw the task."""

    id: str = ""
    FIELDS = (Field(1, "id", "string"),)

"""One container's life acted out in the spawner, with a runtime that only forks, before any shim is forked.

What Python does the first time (specialised bytecode, caches, lazy objects) it then need not do in every shim: a shim
that serves one container dirties 2.4 MB instead of 4.3. Runs before the spawner listens; leaves nothing.
"""

from __future__ import annotations

import json
import os
import signal
import socket

from rorqual.rpc import taskapi, ttrpc
from rorqual.rpc.wire import Any_, Message
from rorqual.shim import options
from rorqual.shim.loop import Loop
from rorqual.shim.main import Parts, build

_ROUNDS = 10
_ROUND_TIMEOUT_S = 1.0


class _Actor:
    """A container whose processes end at once."""

    exec_prefix = ""

    def __init__(self) -> None:
        self.console_fd: int | None = None
        self.shares_pid_namespace = False
        self.pid = _fork()

    def start(self) -> None:
        return

    def exec(self, spec: bytes, fds: object, *, terminal: bool) -> tuple[int, int | None]:
        return _fork(), None

    def kill(self, signum: int, *, all_processes: bool = False) -> None:
        return

    def pids(self) -> list[int]:
        return [self.pid]

    def pause(self) -> None:
        return

    def resume(self) -> None:
        return

    def update(self, resources: bytes) -> None:
        return

    def metrics(self) -> bytes:
        return b""

    def oom_watch(self) -> int | None:
        return None

    def oom_killed(self) -> bool:
        return False

    def delete(self, *, force: bool = False) -> None:
        return


class _Stage:
    """Makes actors."""

    create_prefix = ""

    def create(
        self, container_id: str, bundle: str, fds: object, rootfs: list[taskapi.Mount], *, terminal: bool
    ) -> _Actor:
        return _Actor()


def _fork() -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    return pid


def rehearse(directory: str) -> None:
    """Act in `directory`, which is made and removed. Raises OSError when it cannot be made."""
    handler = signal.getsignal(signal.SIGCHLD)
    for _ in range(_ROUNDS):
        os.mkdir(directory, 0o700)
        try:
            _act(directory)
        finally:
            for entry in os.scandir(directory):
                os.unlink(entry)
            os.rmdir(directory)
    signal.signal(signal.SIGCHLD, handler)


def _act(directory: str) -> None:
    ours, theirs = socket.socketpair()
    loop = Loop()
    parts = build(
        loop, "rehearsal", directory, theirs, lambda _options: _Stage(), on_oom=lambda: None, on_health=lambda: None
    )
    log = {"driver": "json-file", "path": f"{directory}/log", "max_size": -1, "max_file": 1}
    probe = {"kind": "exec", "process": {}}
    health = {"probe": probe, "interval_s": 0, "timeout_s": 1, "start_period_s": 0, "start_interval_s": 1, "retries": 1}
    given = {"log": log, "open_stdin": False, "runtime": "rorqual", "health": health}
    task_options = json.dumps(given).encode()
    create = taskapi.CreateTaskRequest(
        "rehearsal",
        directory,
        [taskapi.Mount("overlay", "overlay", "", ["lowerdir=a", "upperdir=b"])],
        stdout="shim:",
        stderr="shim:",
        options=Any_(options.TYPE_URL, task_options),
    )
    for stream, method, request in (
        (1, "Create", create),
        (3, "Connect", taskapi.ConnectRequest("rehearsal")),
        (5, "Wait", taskapi.WaitRequest("rehearsal")),
        (7, "Start", taskapi.StartRequest("rehearsal")),
        (9, "State", taskapi.StateRequest("rehearsal")),
    ):
        _send(ours, stream, method, request)
    waited = [False]

    def ready(_events: int) -> None:
        frames = parser.feed(ours.recv(65536))
        if any(frame.stream_id == 5 for frame in frames):
            waited[0] = True
            _send(ours, 11, "Delete", taskapi.DeleteRequest("rehearsal"))
        elif waited[0]:
            loop.stop()

    parser = ttrpc.Parser()
    loop.add(ours.fileno(), 1, ready)
    loop.call_later(_ROUND_TIMEOUT_S, loop.stop)
    loop.run()
    loop.remove(ours.fileno())
    ours.close()
    _strike(loop, parts)


def _send(sock: socket.socket, stream: int, method: str, request: Message) -> None:
    call = ttrpc.Request(ttrpc.TASK_SERVICE, method, request.encode())
    sock.sendall(ttrpc.pack(stream, ttrpc.REQUEST, call))


def _strike(loop: Loop, parts: Parts) -> None:
    try:
        while os.waitpid(-1, 0)[0]:
            pass  # a probe may have outlived the play by a moment
    except ChildProcessError:
        pass
    parts.server.close()
    parts.streams.close()
    loop.close()

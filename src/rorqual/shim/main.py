"""A shim's one place that builds and connects its parts. Runs in a process just forked from the spawner."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable

from rorqual import errdefs
from rorqual.linux import process as linux_process
from rorqual.record import record
from rorqual.rpc import unixsock
from rorqual.shim import leftovers
from rorqual.shim.forward import HEALTH, OOM, forward
from rorqual.shim.loop import Loop, log
from rorqual.shim.options import TaskOptions
from rorqual.shim.rpcserver import Server
from rorqual.shim.runtime import Runtime, runtime_for
from rorqual.shim.service import TaskService
from rorqual.shim.streamserver import StreamServer

SERVICES = ("containerd.task.v3.Task", "containerd.task.v2.Task")


def run(namespace: str, container_id: str, bundle: str, connection: socket.socket, containerd: str) -> None:
    """Be the shim of one container until it is deleted and Shutdown is called.

    `bundle` is <state>/tasks/<namespace>/<id>; `connection` is the first ttrpc connection, `containerd` the ttrpc
    socket for events. Raises OSError when the sockets in the bundle cannot be made.
    """
    os.setsid()
    os.chdir("/")
    os.umask(0o022)
    linux_process.set_name("rorqual-shim")
    linux_process.set_child_subreaper()
    _write_pid_file(f"{bundle}/shim.pid")
    state = os.path.dirname(os.path.dirname(os.path.dirname(bundle)))
    loop = Loop()
    build(
        loop,
        container_id,
        bundle,
        connection,
        lambda options: runtime_for(options, f"{state}/runc/{namespace}"),
        on_oom=lambda: _oom(containerd, namespace, container_id, bundle),
        on_health=lambda: _tell(containerd, namespace, HEALTH, container_id),
    )
    loop.run()
    leftovers.finish([(words, fd()) for words, fd in loop.last_words.items()])
    leftovers.send([left() for left in loop.unsent])


@record
class Parts:
    """The servers of a shim."""

    server: Server
    streams: StreamServer


def build(
    loop: Loop,
    container_id: str,
    bundle: str,
    connection: socket.socket,
    runtime: Callable[[TaskOptions], Runtime],
    *,
    on_oom: Callable[[], None],
    on_health: Callable[[], None],
) -> Parts:
    """Connect a shim's parts on `loop`: the Task service on `connection` and shim.sock, and stream.sock."""
    service = TaskService(loop, container_id, bundle, runtime, on_oom=on_oom, on_health=on_health, shutdown=loop.stop)
    server = Server(loop, SERVICES, service.methods())
    streams = StreamServer(loop, unixsock.listen(f"{bundle}/stream.sock", socket.SOCK_SEQPACKET), service.find)
    server.listen(unixsock.listen(f"{bundle}/shim.sock"))

    def first_connection_closed() -> None:
        if service.idle:  # nobody will ever ask for this shim
            loop.stop()

    server.serve(connection, first_connection_closed)
    return Parts(server, streams)


def _write_pid_file(path: str) -> None:
    with open(path + ".tmp", "w") as file:
        file.write(str(os.getpid()))
    os.rename(path + ".tmp", path)


def _oom(containerd: str, namespace: str, container_id: str, bundle: str) -> None:
    """Leave a mark for a containerd that is away, and tell one that is there."""
    try:
        with open(f"{bundle}/oom", "w") as file:
            file.write(str(time.time_ns()))
    except OSError as e:
        log(f"oom mark: {e}")
    _tell(containerd, namespace, OOM, container_id)


def _tell(containerd: str, namespace: str, topic: str, container_id: str) -> None:
    """A containerd that is away reads it from the bundle later."""
    try:
        forward(containerd, namespace, topic, container_id)
    except (OSError, errdefs.Error) as e:
        log(f"{topic}: {e}")

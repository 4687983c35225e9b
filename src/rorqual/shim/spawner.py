"""The spawner: a warm process that has imported everything a shim needs, opened nothing, and only forks.

Interpreter start is 10-30 ms, importing as much again; a fork of this process is 1-3 ms. One datagram on its
SOCK_SEQPACKET socket is one shim: JSON {"ns", "id", "bundle"} and one fd, the shim's end of its first
ttrpc connection. There is no answer: a shim that cannot start closes that connection.

It runs from a sealed image of the interpreter, so that no container can reach the host's through /proc/<pid>/exe
(CVE-2019-5736), and ends with containerd; shims live on.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys
from contextlib import suppress

from rorqual.linux import malloc
from rorqual.linux import process as linux_process
from rorqual.linux.sealed import reexec_sealed
from rorqual.rpc import unixsock
from rorqual.shim import health, probes, runtime  # noqa: F401  (health checks' modules, for the shims to share)
from rorqual.shim import main as shim
from rorqual.shim.rehearsal import rehearse

_REQUEST_MAX = 64 * 1024
_HEAP_KEPT = 512 * 1024  # bytes: the buffers of one read of output on its way to a log; shims trim it when all is quiet


def main(argv: list[str] | None = None) -> None:
    """Serve until containerd, the parent, ends."""
    options = _options(sys.argv[1:] if argv is None else argv)
    path = options["--socket"]
    linux_process.set_parent_death_signal(signal.SIGTERM)  # execve(2) keeps it
    if options["--parent"] and os.getppid() != int(options["--parent"]):
        return  # it died before the signal was asked for
    reexec_sealed(shared=True)
    # Shims inherit it, and so does whatever they fork into a container's namespaces, from its first instruction on.
    linux_process.prctl(linux_process.PR_SET_DUMPABLE, 0)
    linux_process.set_name("rorqual-spawner")
    malloc.keep_free(_HEAP_KEPT)
    runtime.warm_up()
    rehearse(f"{path}.rehearsal-{os.getpid()}")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps shims that end while this process lives
    listener = unixsock.listen(path, socket.SOCK_SEQPACKET)
    gc.collect()
    malloc.trim()
    gc.freeze()  # a collection in a shim must not write to, and so copy, the shared pages
    _serve(listener, options["--containerd"])


def _options(argv: list[str]) -> dict[str, str]:
    """--socket, --containerd and --parent; containerd writes them, and argparse is 1 MB in every shim's parent."""
    options = {"--socket": "", "--containerd": "", "--parent": ""}
    given = dict(zip(argv[::2], argv[1::2], strict=False))
    if len(argv) % 2 or not given.keys() <= options.keys() or not {"--socket", "--containerd"} <= given.keys():
        sys.exit(
            "usage: rorqual-spawner --socket PATH --containerd PATH [--parent PID]\n"
            "  --socket      SOCK_SEQPACKET socket to listen on\n"
            "  --containerd  containerd's ttrpc socket, for OOM events\n"
            "  --parent      containerd's pid: end with it, even when it is gone already"
        )
    return options | given


def _serve(listener: socket.socket, containerd: str) -> None:
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    connections: dict[int, socket.socket] = {}
    while True:
        for fd, _events in poll.poll():
            if fd == listener.fileno():
                connection, _ = listener.accept()
                connections[connection.fileno()] = connection
                poll.register(connection, select.POLLIN)
            elif not _request(connections[fd], [listener, *connections.values()], containerd):
                poll.unregister(fd)
                connections.pop(fd).close()


def _request(connection: socket.socket, inherited: list[socket.socket], containerd: str) -> bool:
    """Fork one shim; False when the connection has ended."""
    data, fds, _flags, _ = socket.recv_fds(connection, _REQUEST_MAX, 1)
    if not data:
        return False
    try:
        request = json.loads(data)
        if len(fds) == 1 and os.fork() == 0:
            _become_shim(request, fds[0], inherited, containerd)
    except (ValueError, OSError) as e:
        print(f"spawner: {e}", file=sys.stderr)  # noqa: T201
    finally:
        for fd in fds:
            os.close(fd)
    return True


def _become_shim(request: dict[str, str], fd: int, inherited: list[socket.socket], containerd: str) -> None:
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for sock in inherited:
            sock.close()
        shim.run(request["ns"], request["id"], request["bundle"], socket.socket(fileno=fd), containerd)
        status = 0
    except BaseException as e:
        with suppress(OSError):
            print(f"shim {request.get('id')}: {type(e).__name__}: {e}", file=sys.stderr)  # noqa: T201
    finally:
        os._exit(status)  # never return into the spawner's loop


if __name__ == "__main__":
    main()

"""What a health check does: a command in the container, or (beyond Docker) an HTTP or TCP probe that needs no exec.

    {"kind": "exec", "process": runtime-spec process}
    {"kind": "http", "host": "127.0.0.1", "port": 8080, "path": "/healthz"}      healthy: any 2xx or 3xx answer
    {"kind": "tcp", "host": "127.0.0.1", "port": 5432}                           healthy: the connection is accepted

A network probe is a child of the shim in the container's network namespace, with nothing of the container's files: no
name is looked up, so `host` is an address. Its answer is bounded; its time is the monitor's business.
"""

from __future__ import annotations

import json
import os
import socket

from rorqual.errdefs import InvalidArgument
from rorqual.linux import namespaces, process
from rorqual.shim.runtime import Container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_ANSWER_MAX = 4096
_USER_AGENT = "rorqual-health"


def spawner(probe: Mapping[str, Any], container: Container) -> Callable[[int], int]:
    """What starts the probe, its output going to the given fd, and returns its pid. Raises InvalidArgument."""
    kind = probe.get("kind")
    if kind == "exec":
        spec = json.dumps(probe["process"]).encode()
        return lambda write_fd: _exec(container, spec, write_fd)
    if kind in ("http", "tcp"):
        host, port = str(probe["host"]), int(probe["port"])
        request = _request(host, port, str(probe.get("path") or "/")) if kind == "http" else None
        return lambda write_fd: _fork(container.pid, write_fd, host, port, request)
    raise InvalidArgument(f"health check: unknown kind {kind!r}")


def _exec(container: Container, spec: bytes, write_fd: int) -> int:
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pid, _ = container.exec(spec, (null, write_fd, write_fd), terminal=False)
    finally:
        os.close(null)
    return pid


def _request(host: str, port: int, path: str) -> bytes:
    name = f"[{host}]" if ":" in host else host
    lines = (f"GET {path} HTTP/1.1", f"Host: {name}:{port}", f"User-Agent: {_USER_AGENT}", "Connection: close", "", "")
    return "\r\n".join(lines).encode()


def _fork(container_pid: int, write_fd: int, host: str, port: int, request: bytes | None) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        os.dup2(write_fd, 1)
        process.close_from(3)  # the container's streams must not be held open by a probe
        namespace = os.open(f"/proc/{container_pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        namespaces.setns(namespace, namespaces.CLONE_NEWNET)
        status = _connect(host, port, request)
    except OSError as e:
        os.write(1, f"{host}:{port}: {e.strerror or e}".encode())
    finally:
        os._exit(status)  # never back into the shim's loop


def _connect(host: str, port: int, request: bytes | None) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as sock:
        sock.connect((host, port))
        if request is None:
            return 0
        sock.sendall(request)
        answer = b""
        while len(answer) < _ANSWER_MAX and (data := sock.recv(_ANSWER_MAX - len(answer))):
            answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    status_line = head.split(b"\r\n", 1)[0]
    fields = status_line.split(b" ", 2)
    if not fields[0].startswith(b"HTTP/") or len(fields) < 2 or not fields[1].isdigit():
        os.write(1, b"no HTTP answer: " + status_line[:200])
        return 1
    os.write(1, status_line + b"\n" + body)
    return 0 if 200 <= int(fields[1]) < 400 else 1

"""Unix sockets whose path may be longer than sun_path (107 bytes): reached through an fd of their directory.

Used by every process. Source: unix(7), proc_pid_fd(5).
"""

from __future__ import annotations

import os
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_SUN_PATH_MAX = 107


def connect(path: Path | str, kind: int = socket.SOCK_STREAM, timeout_s: float | None = None) -> socket.socket:
    """A connected, close-on-exec socket. Raises OSError as connect(2) does."""
    sock = socket.socket(socket.AF_UNIX, kind)
    try:
        sock.settimeout(timeout_s)
        _by_short_name(path, sock.connect)
    except BaseException:
        sock.close()
        raise
    return sock


def listen(path: Path | str, kind: int = socket.SOCK_STREAM, *, mode: int = 0o600, backlog: int = 128) -> socket.socket:
    """A listening socket at `path` (a stale socket file there is replaced), mode set before it listens."""
    sock = socket.socket(socket.AF_UNIX, kind)
    try:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        old = os.umask(0o777 & ~mode)
        try:
            _by_short_name(path, sock.bind)
        finally:
            os.umask(old)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _by_short_name(path: Path | str, call: Callable[[str], None]) -> None:
    text = os.fspath(path)
    if len(os.fsencode(text)) <= _SUN_PATH_MAX:
        call(text)
        return
    directory = os.open(os.path.dirname(text), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        call(f"/proc/self/fd/{directory}/{os.path.basename(text)}")
    finally:
        os.close(directory)

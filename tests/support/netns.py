"""Network namespaces for tests, so that the machine's own interfaces, addresses and rules are never touched.

A thread that is inside one (`with namespace.entered():`) opens its sockets there, and so do the programs it starts:
the network namespace belongs to the thread, and a forked child inherits it.
"""

import contextlib
import ctypes
import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _setns(fd: int) -> None:
    """setns(2); `os.setns` only came with Python 3.12."""
    if _libc.setns(fd, _CLONE_NEWNET) != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))


class NetworkNamespace:
    """One named namespace with its loopback up; `close` removes it and so every interface in it."""

    def __init__(self, prefix: str = "rq") -> None:
        self.name = f"{prefix}-{secrets.token_hex(4)}"
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.path = Path("/run/netns") / self.name
        self.run("ip", "link", "set", "lo", "up")

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread is inside until the block ends."""
        with open("/proc/thread-self/ns/net") as home, open(self.path) as away:
            _setns(away.fileno())
            try:
                yield
            finally:
                _setns(home.fileno())

    def run(self, *argv: str, check: bool = True, timeout: float = 60, **options: object) -> str:
        """The standard output of a program run inside."""
        with self.entered():
            done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=timeout, **options)  # type: ignore[call-overload]
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(argv)}: exit status {done.returncode}: {done.stderr.strip()}")
        return str(done.stdout)

    def links(self) -> set[str]:
        """The names of the interfaces inside."""
        return {line.split(": ")[1].split("@")[0] for line in self.run("ip", "-o", "link").splitlines()}

    def join(self, other: "NetworkNamespace", ours: str, theirs: str) -> None:
        """Lay a cable: `up0` here with address `ours` (CIDR), `up0` there with `theirs`, default routes across."""
        self.run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "up0", "netns", other.name)
        for end, address, peer in ((self, ours, theirs), (other, theirs, ours)):
            end.run("ip", "address", "add", address, "dev", "up0")
            end.run("ip", "link", "set", "up0", "up")
            end.run("ip", "route", "add", "default", "via", peer.split("/")[0], check=False)

    def close(self) -> None:
        subprocess.run(["ip", "netns", "delete", self.name], check=False, capture_output=True)

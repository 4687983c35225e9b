"""A laboratory: each test body runs in a forked child with a network and a mount namespace of its own, which is "the
host" to the controller under test. The machine's own interfaces, sysctls and nftables are never touched; everything
goes with the child."""

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import threading
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from rorqual.libnetwork.controller import Controller
from rorqual.libnetwork.model import ControllerOptions
from rorqual.libnetwork.netns import NamespaceDir
from rorqual.linux import netlink
from rorqual.linux.netlink import RtNetlink

CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


def _ok(result: int) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


@dataclass
class Lab:
    """The host is 10.9.0.1 on a link with the neighbour, 10.9.0.2, who knows no route to containers unless told."""

    root: Path
    servers: list[socket.socket] = field(default_factory=list)
    neighbour: str = ""

    @property
    def db(self) -> str:
        return str(self.root / "network.db")

    @property
    def exec_root(self) -> str:
        return str(self.root / "run")

    def build(self) -> None:
        spaces = NamespaceDir(str(self.root / "neighbours"))
        spaces.open()
        with spaces.create("next-door"), RtNetlink() as rtnl:
            rtnl.transact([netlink.set_link(index=1, up=True)])
        self.neighbour = spaces.path_of("next-door")
        with RtNetlink() as rtnl, spaces.opened("next-door") as fd, spaces.netlink(fd) as far:
            pair = netlink.new_veth(
                "uplink", master=0, mtu=0, peer="eth0", peer_mac="02:00:00:00:00:02", peer_netns_fd=fd
            )
            rtnl.transact([netlink.set_link(index=1, up=True), pair])
            for sock, name, address in ((rtnl, "uplink", "10.9.0.1"), (far, "eth0", "10.9.0.2")):
                link = sock.link(name)
                assert link is not None
                up = netlink.set_link(index=link.index, up=True)
                sock.transact([up, netlink.new_address(link.index, IPv4Address(address).packed, 24)])
        spaces.close()

    def route_from_neighbour(self, destination: str, prefix: int) -> None:
        """Let the neighbour send packets for that network to the host."""
        self.run(self.neighbour, f"ip route add {destination}/{prefix} via 10.9.0.1")

    def run(self, netns: str | None, command: str) -> str:
        words = ["nsenter", f"--net={netns}", "sh", "-c", command] if netns else ["sh", "-c", command]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout

    def with_ipv6(self) -> None:
        """The link with the neighbour has IPv6 too: fd09::1 here, fd09::2 there, who sends all else to us."""
        for netns, name, last in ((None, "uplink", 1), (self.neighbour, "eth0", 2)):
            self.run(netns, f"ip -6 addr add fd09::{last}/64 dev {name} nodad")
        self.run(self.neighbour, "ip -6 route add default via fd09::1")

    def enter(self, fd: int) -> None:
        """The calling thread, which must end soon, goes into the network namespace of `fd`."""
        _ok(libc.setns(fd, CLONE_NEWNET))

    def open_socket(
        self, netns: str | None, kind: int = socket.SOCK_STREAM, family: int = socket.AF_INET
    ) -> socket.socket:
        """A socket of that namespace (None: the host's). A thread goes there to open it."""
        if netns is None:
            return socket.socket(family, kind)
        made: list[socket.socket] = []

        def work() -> None:
            with open(netns) as file:
                _ok(libc.setns(file.fileno(), CLONE_NEWNET))
            made.append(socket.socket(family, kind))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return made[0]

    def serve(
        self,
        netns: str | None,
        port: int,
        kind: int = socket.SOCK_STREAM,
        text: str = "hello",
        family: int = socket.AF_INET,
    ) -> None:
        """Answer each connection or datagram with `<text> <client address>`, until the lab ends."""
        sock = self.open_socket(netns, kind, family)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", port))
        self.servers.append(sock)

        def tcp() -> None:
            sock.listen(16)
            with contextlib.suppress(OSError):
                while True:
                    conn, peer = sock.accept()
                    with conn:
                        conn.sendall(f"{text} {peer[0]}".encode())

        def udp() -> None:
            with contextlib.suppress(OSError):
                while True:
                    _data, peer = sock.recvfrom(2048)
                    sock.sendto(f"{text} {peer[0]}".encode(), peer)

        if kind == socket.SOCK_STREAM:
            sock.listen(16)
        threading.Thread(target=tcp if kind == socket.SOCK_STREAM else udp, daemon=True).start()

    async def call(
        self, netns: str | None, address: str, port: int, kind: int = socket.SOCK_STREAM, timeout_s: float = 10.0
    ) -> str:
        """What the server at that address answered to a client in `netns`. Raises OSError, TimeoutError."""

        def work() -> str:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with self.open_socket(netns, kind, family) as sock:
                sock.settimeout(timeout_s)
                sock.connect((address, port))
                if kind == socket.SOCK_DGRAM:
                    sock.send(b"?")
                return sock.recv(2048).decode()

        return await asyncio.to_thread(work)

    def resolvers(self) -> list[int]:
        """The resolver processes of engines on this host, which its network namespace tells from others'."""
        home = os.readlink("/proc/self/ns/net")
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                ours = os.readlink(f"/proc/{pid}/ns/net") == home
                if ours and b"rorqual.libnetwork.dns.server" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(int(pid))
            except OSError:
                continue
        return found

    async def refused(
        self, netns: str | None, address: str, port: int, kind: int = socket.SOCK_STREAM, *, expected: bool = True
    ) -> bool:
        """Whether a client in `netns` gets no answer from there; one that is expected is waited for as by `call`."""
        try:
            return not await self.call(netns, address, port, kind, timeout_s=0.4 if expected else 10.0)
        except OSError:
            return True


Body = Callable[[Lab], Awaitable[None]]


@contextlib.asynccontextmanager
async def controller(lab: Lab, live: Sequence[str] = (), **options: Any) -> AsyncIterator[Controller]:
    """One that has started in the laboratory, with these ControllerOptions; it is stopped, and leaves what is there."""
    c = Controller(lab.db, lab.exec_root, ControllerOptions(**options))
    await c.start(live)
    try:
        yield c
    finally:
        await c.stop()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Callable[[Body], None]]:
    """Call it with an async function of the Lab: it runs in the child, its exception fails the test."""

    def run(body: Body) -> None:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                signal.alarm(90)
                os.setpgid(0, 0)
                _ok(libc.unshare(CLONE_NEWNET | CLONE_NEWNS))
                _ok(libc.mount(None, b"/", None, (1 << 18) | (1 << 14), None))  # MS_PRIVATE | MS_REC
                place = Lab(tmp_path)
                place.build()
                try:
                    asyncio.run(body(place))  # type: ignore[arg-type]
                finally:
                    for resolver in place.resolvers():
                        os.kill(resolver, signal.SIGKILL)
                status = 0
            except BaseException:
                os.write(write, traceback.format_exc().encode()[-60000:])
            finally:
                os._exit(status)
        os.close(write)
        with os.fdopen(read) as pipe:
            report = pipe.read()
        _pid, status = os.waitpid(pid, 0)
        if status:
            pytest.fail(report or f"child ended with status {status}", pytrace=False)

    yield run

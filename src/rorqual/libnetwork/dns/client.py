"""The daemon's side of the resolver process: starts it when first needed, finds it again, tells it what changes.

Used by the engine's thread. Whatever happens to the process or its connection, the next call (or `lost`, when the
controller sees the connection end) brings it back with all that `wanted` says; the sandboxes' sockets are opened anew
only where the process does not have them.
"""

import array
import json
import logging
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from rorqual import errdefs
from rorqual.libnetwork.dns import server
from rorqual.libnetwork.model import EndpointID, NetworkID, SandboxID
from rorqual.libnetwork.netns import NamespaceDir
from rorqual.libnetwork.proxied import PortProxies
from rorqual.linux.nftables import Nft

log = logging.getLogger(__name__)

ADDRESS = "127.0.0.11"
_ANSWER_S = 10.0  # a machine under load starts a Python in that time
_LIVES_S = 1.0  # at least, or starting it again is of no use
_NAT = """add table ip rorqual_dns
flush table ip rorqual_dns
add chain ip rorqual_dns output {{ type nat hook output priority -100; policy accept; }}
add rule ip rorqual_dns output ip daddr {address} udp dport 53 dnat to {address}:{udp}
add rule ip rorqual_dns output ip daddr {address} tcp dport 53 dnat to {address}:{tcp}
"""


@dataclass(frozen=True, slots=True)
class Names:
    """What an endpoint is called on its network; the first name is its own."""

    network_id: NetworkID
    network_name: str
    endpoint_id: EndpointID
    names: tuple[str, ...]
    ip: str
    ip6: str

    def order(self) -> dict[str, Any]:
        return {
            "op": "endpoint",
            "network": self.network_id,
            "network_name": self.network_name,
            "id": self.endpoint_id,
            "names": self.names,
            "ip": self.ip,
            "ip6": self.ip6,
        }


@dataclass(frozen=True, slots=True)
class SandboxView:
    """What a sandbox may ask about. `servers` are (address, whether asked from the host's namespace)."""

    id: SandboxID
    networks: tuple[NetworkID, ...]
    links: dict[NetworkID, dict[str, str]]
    servers: tuple[tuple[str, bool], ...]
    forward: bool

    def order(self) -> dict[str, Any]:
        return {
            "op": "sandbox",
            "id": self.id,
            "networks": self.networks,
            "links": self.links,
            "servers": self.servers,
            "forward": self.forward,
        }


@dataclass(frozen=True, slots=True)
class Wanted:
    """All that the resolver has to know."""

    views: tuple[SandboxView, ...]
    names: tuple[Names, ...]


class Resolver:
    """`wanted` is asked for the whole when the process has to be told it; `connected` gets the connection's fd each
    time there is a new one, and -1 before it is closed, so that somebody may wait for its end."""

    def __init__(
        self,
        exec_root: str,
        namespaces: NamespaceDir,
        wanted: Callable[[], Wanted],
        connected: Callable[[int], None],
    ) -> None:
        self._directory, self._namespaces = exec_root, namespaces
        self._wanted, self._connected = wanted, connected
        self._sock: socket.socket | None = None
        self._known: set[SandboxID] = set()
        self.ports: PortProxies | None = None  # what it serves besides; set before `start`
        self.known_ports: set[str] = set()
        self._syncing = False
        self._spawned_s = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def connected(self) -> bool:
        """Whether there is a process that this one talks to."""
        return self._sock is not None

    @property
    def serving(self) -> bool:
        """Whether the process has a sandbox to answer, or ports to serve."""
        return bool(self._known or self.ports)

    def start(self) -> None:
        """At the daemon's start: find the process of before, or start one if there is somebody to answer."""
        wanted = self._wanted()
        if wanted.views:
            self._sync()
        elif self._dial() and not self.known_ports:
            self.retire()

    def close(self) -> None:
        """Let go of the process, which goes on."""
        if self._sock is not None:
            self._connected(-1)
            self._sock.close()
            self._sock = None
        self._known.clear()

    def retire(self) -> None:
        """End the process; the next endpoint starts another. Nothing to do where there is none."""
        if self._sock is not None:
            try:
                self._send({"op": "exit"})
            except OSError:
                pass  # it ended by itself
            with _Path(self._directory) as path, suppress(FileNotFoundError):
                os.unlink(path)
        self.close()
        if self._process is not None:
            try:
                self._process.wait(_ANSWER_S)
            except subprocess.TimeoutExpired:
                log.warning("the DNS resolver (pid %d) does not end", self._process.pid)
            self._process = None

    def lost(self) -> None:
        """The connection ended: bring the process back if anybody needs it."""
        if self._sock is None:
            return
        self.close()
        if time.monotonic() - self._spawned_s < _LIVES_S:
            log.error("the DNS resolver ends at its start; the next container will try it again")
            return
        if self._wanted().views or self.ports:
            log.warning("the DNS resolver ended, starting it again")
            if self._process is not None:
                self._process.poll()  # no zombie
            self._sync()

    # --- changes

    def join(self, view: SandboxView, names: Names) -> None:
        """An endpoint came to be. Raises errdefs.Internal when there is no resolver to be had."""
        self._tell([names.order()], view)

    def leave(self, view: SandboxView | None, sandbox: SandboxID, network: NetworkID, endpoint: EndpointID) -> None:
        """An endpoint of a sandbox that goes on ended; `view` None when no network with names is left to it."""
        if view is None:
            self.forget(sandbox, [(network, endpoint)])
        else:
            self._tell([{"op": "drop-endpoint", "network": network, "id": endpoint}], view)

    def rename(self, names: Names) -> None:
        self._tell([names.order()], None)

    def forget(self, sandbox: SandboxID, endpoints: Iterable[tuple[NetworkID, EndpointID]]) -> None:
        """A sandbox ended. Must come before its namespace is removed: the sockets keep that."""
        if self._sock is None:
            return
        orders = [{"op": "drop-endpoint", "network": network, "id": ident} for network, ident in endpoints]
        if sandbox in self._known:
            orders.append({"op": "drop-sandbox", "id": sandbox})
            self._known.discard(sandbox)
        self._tell(orders, None)

    def _tell(self, orders: list[dict[str, Any]], view: SandboxView | None) -> None:
        """Send changes; where the connection turns out dead, everything, which has the changes too."""
        if self._sock is None:
            if view is not None:
                self._sync()
            return
        try:
            for order in orders:
                self._send(order)
            if view is not None:
                self._put(view)
        except OSError:
            self.close()
            self._sync()

    # --- ports

    def ensure(self) -> bool:
        """See proxied.Process."""
        if self._sock is not None:
            return True
        if self._syncing:
            raise errdefs.Internal("the DNS resolver ended at its start")
        self._sync()
        return False

    def order(self, order: dict[str, Any], fds: list[int], *, awaited: bool = False) -> None:
        """See proxied.Process."""
        with ExitStack() as stack:
            read = -1
            if awaited:  # it closes the other end when it has done, or by its own end
                read, write = os.pipe2(os.O_CLOEXEC)
                stack.callback(os.close, read)
                fds = [*fds, write]
            try:
                self._send(order, fds)
            except OSError as error:
                self.close()
                raise errdefs.Unavailable(f"the DNS resolver ended: {error}") from error
            finally:
                if awaited:
                    os.close(write)
            if awaited and not select.select([read], [], [], _ANSWER_S)[0]:
                raise errdefs.Internal(f"the DNS resolver does not answer {order['op']}")

    # --- the process

    def _sync(self) -> None:
        """Have a process that knows all that is wanted, and nothing else. Raises errdefs.Internal."""
        self._syncing = True
        try:
            self._tell_all()
        finally:
            self._syncing = False

    def _tell_all(self) -> None:
        try:
            wanted = self._wanted()
            if not self._dial():
                self._spawn()
                if not wanted.views:
                    # Ports are told of at once and served when it has started: the kernel does most without it.
                    self._use(self._connection(), set(), set())
                elif not self._dial():
                    raise errdefs.Internal("the DNS resolver does not answer")
            self._send({"op": "begin"})
            for names in wanted.names:
                self._send(names.order())
            self._send({"op": "commit"})
            for ident in self._known - {view.id for view in wanted.views}:
                self._send({"op": "drop-sandbox", "id": ident})
                self._known.discard(ident)
            for view in wanted.views:
                self._put(view)
            if self.ports is not None:
                self.ports.sync()
        except OSError as error:
            self.close()
            raise errdefs.Internal(f"cannot reach the DNS resolver: {error}") from error

    def _put(self, view: SandboxView) -> None:
        """Tell what a sandbox may ask; its sockets are opened where the process does not have them. A sandbox that
        cannot have any is said in the log: the others must not wait for it. Raises OSError of the connection."""
        if view.id in self._known:
            self._send(view.order())
            return
        with ExitStack() as stack:
            try:
                fds = self._sockets(view.id, stack)
            except OSError as error:
                log.error("sandbox %s has no DNS: %s", view.id, error)
                return
            self._send(view.order(), fds)
        self._known.add(view.id)

    def _sockets(self, sandbox: SandboxID, stack: ExitStack) -> list[int]:
        """A UDP and a listening TCP socket of the sandbox and its namespace, as long as `stack` lasts; port 53 leads to
        them. Not that port itself: the container may want it for a server of its own."""
        netns = stack.enter_context(self._namespaces.opened(sandbox))
        with self._namespaces.entered(netns):
            udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC))
            udp.bind((ADDRESS, 0))
            tcp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC))
            tcp.bind((ADDRESS, 0))
            tcp.listen(64)
            nft = Nft()
            try:
                ports = {"udp": udp.getsockname()[1], "tcp": tcp.getsockname()[1]}
                nft.run(_NAT.format(address=ADDRESS, **ports))
            finally:
                nft.close()
        return [udp.fileno(), tcp.fileno(), netns]

    def _send(self, order: dict[str, Any], fds: list[int] | None = None) -> None:
        assert self._sock is not None
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self._sock.sendmsg([json.dumps(order, separators=(",", ":")).encode()], ancillary)

    def _dial(self) -> bool:
        """Connect to a running process; False where there is none. One of another version is ended."""
        try:
            sock = self._connection()
        except OSError:
            return False
        try:
            sock.send(b'{"op":"hello"}')
            data = sock.recv(server.PACKET_MAX)
            hello = json.loads(data) if data else {}
            known, ports = set(hello.get("sandboxes", ())), set(hello.get("ports", ()))
            while hello.get("more") and hello["version"] == server.VERSION:
                hello = json.loads(sock.recv(server.PACKET_MAX))
                known.update(hello["sandboxes"])
                ports.update(hello["ports"])
        except (OSError, ValueError):
            sock.close()
            return False
        except BaseException:
            sock.close()
            raise
        if hello.get("version") != server.VERSION:
            if data:
                log.info("replacing the DNS resolver of another version")
                sock.send(b'{"op":"exit"}')
                sock.recv(1)  # its end
            sock.close()
            return False
        self._use(sock, known, ports)
        return True

    def _connection(self) -> socket.socket:
        """Raises OSError."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        try:
            sock.settimeout(_ANSWER_S)
            with _Path(self._directory) as path:
                sock.connect(path)
        except BaseException:
            sock.close()
            raise
        return sock

    def _use(self, sock: socket.socket, known: set[str], ports: set[str]) -> None:
        self._sock = sock
        self._known = {SandboxID(ident) for ident in known}
        self.known_ports = ports
        self._connected(sock.fileno())

    def _spawn(self) -> None:
        """Start the process. It inherits the socket it listens on, so there is nothing to wait for."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as listener:
            with _Path(self._directory) as path:
                if os.path.lexists(path):
                    os.unlink(path)
                listener.bind(path)
                os.chmod(path, 0o600)
            listener.listen(8)
            self._spawned_s = time.monotonic()
            argv = [sys.executable, "-m", "rorqual.libnetwork.dns.server"]
            # Its complaints go where the daemon's do; it has nothing else to say.
            self._process = subprocess.Popen(
                argv, stdin=listener.fileno(), stdout=subprocess.DEVNULL, cwd="/", start_new_session=True
            )


class _Path:
    """The socket's name, short enough for sun_path however deep the directory is."""

    def __init__(self, directory: str) -> None:
        self._directory, self._fd = directory, -1

    def __enter__(self) -> str:
        self._fd = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._fd}/dns.sock"

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

"""Published ports for clients whose packets the kernel cannot rewrite: those of the host's addresses of the IP version
that the container lacks, and those of [::1]. Part of the resolver process, so that it goes on while the daemon is away.

Each published port is a socket that the daemon opened and passed here; who calls it is connected with the container by
two sockets, and what one sends is sent to the other. The container sees the host's address on its network, as it does
with Docker's proxy processes. No port can take more than half of what is free of the process's file descriptors.
"""

import os
import resource
import select
import socket
import struct
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Address = tuple[str, int]
    Watch = Callable[[int, int, Callable[[int], None]], None]

IDLE_UDP_S = 90.0  # Docker's
_CHUNK = 1 << 17
_BURST = 64  # datagrams, or new connections, before the others have their turn
_SPARE = 256  # file descriptors for everything else
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing tells the peer that it went wrong
_PKTINFO = getattr(socket, "IPV6_PKTINFO", 50)
_RECVPKTINFO = getattr(socket, "IPV6_RECVPKTINFO", 49)


class PortProxy:
    """All ports. `watch(fd, events, handler)` and `unwatch(fd)` are the loop's."""

    def __init__(self, watch: "Watch", unwatch: "Callable[[int], None]") -> None:
        self.watch, self.unwatch = watch, unwatch
        self._ports: dict[str, _Stream | _Datagrams] = {}
        self._paused: set[_Stream] = set()
        self.open = 0  # connections and flows
        # Two descriptors a connection at most.
        self._most = max((resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARE) // 4, 16)

    def keys(self) -> list[str]:
        """Of the ports it serves."""
        return list(self._ports)

    def put(self, key: str, proto: str, target: "Address", sock: socket.socket) -> None:
        """Serve `sock`, which becomes this object's, by `target`. A key that is there is served anew."""
        self.drop(key)
        sock.setblocking(False)
        self._ports[key] = _Datagrams(self, sock, target) if proto == "udp" else _Stream(self, sock, target)

    def drop(self, key: str) -> None:
        """Stop serving; its connections end. One that is not there is no error."""
        port = self._ports.pop(key, None)
        if port is not None:
            port.close()

    def expire(self, now: float) -> float | None:
        """Forget flows that were idle; seconds until there is one again, None for never."""
        waits = [port.expire(now) for port in self._ports.values() if isinstance(port, _Datagrams) and port.flows]
        return min(waits, default=None)

    def may_have(self, already: int) -> bool:
        """Whether a port with that many connections may have one more."""
        return already <= (self._most - self.open) // 2

    def pause(self, stream: "_Stream") -> None:
        """It has what it may have: who calls waits in its backlog."""
        self.unwatch(stream.sock.fileno())
        self._paused.add(stream)

    def ended(self) -> None:
        """A connection ended: there is room."""
        self.open -= 1
        for stream in [s for s in self._paused if self.may_have(len(s.connections))]:
            self._paused.discard(stream)
            stream.listen()

    def forget(self, stream: "_Stream") -> None:
        """It is closed."""
        self._paused.discard(stream)
        self.unwatch(stream.sock.fileno())


class _Stream:
    """A listening TCP socket."""

    def __init__(self, proxy: PortProxy, sock: socket.socket, target: "Address") -> None:
        self.proxy, self.sock, self.target = proxy, sock, target
        self.connections: set[_Connection] = set()
        self.listen()

    def listen(self) -> None:
        self.proxy.watch(self.sock.fileno(), select.EPOLLIN, self._accept)

    def close(self) -> None:
        self.proxy.forget(self)
        self.sock.close()
        for connection in list(self.connections):
            connection.abort()

    def _accept(self, _events: int) -> None:
        for _ in range(_BURST):
            if not self.proxy.may_have(len(self.connections)):
                self.proxy.pause(self)
                return
            try:
                client, _ = self.sock.accept()
            except OSError:
                return  # nobody waits any more, or the client is gone already
            try:
                _Connection(self, client)
            except OSError:  # no descriptors
                client.close()


class _Side:
    """One of the two sockets of a connection, and what is to be sent to it yet."""

    __slots__ = ("ended", "pending", "shut", "sock", "watched")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.pending = b""
        self.ended = False  # it sends no more
        self.shut = False  # and it was told that no more is sent to it
        self.watched = 0


class _Connection:
    """A client and its connection to the container."""

    def __init__(self, stream: _Stream, client: socket.socket) -> None:
        """Raises OSError where there is no socket for it."""
        self._stream, self._proxy = stream, stream.proxy
        self._done = False
        self._connecting = True
        server = socket.socket(_family(stream.target), socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._proxy.open += 1
        stream.connections.add(self)
        client.setblocking(False)
        server.setblocking(False)
        for sock in (client, server):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client, self._server = _Side(client), _Side(server)
        try:
            server.connect(stream.target)
        except BlockingIOError:
            pass
        except OSError:
            self.abort()
            return
        self._rewatch()

    def _rewatch(self) -> None:
        """What is waited for: to read where the other side takes it, to write where something is pending."""
        if self._connecting:
            self._await(self._server, select.EPOLLOUT)
            return
        for side, other in ((self._client, self._server), (self._server, self._client)):
            events = 0 if side.ended or other.pending else select.EPOLLIN
            self._await(side, events | (select.EPOLLOUT if side.pending else 0))

    def _await(self, side: _Side, events: int) -> None:
        if events != side.watched or not side.watched:
            side.watched = events
            if events:
                self._proxy.watch(side.sock.fileno(), events, lambda got: self._ready(side, got))
            else:
                self._proxy.unwatch(side.sock.fileno())

    def _ready(self, side: _Side, events: int) -> None:
        if self._done:
            return
        other = self._server if side is self._client else self._client
        try:
            if self._connecting:
                code = self._server.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code:
                    raise OSError(code, os.strerror(code))
                self._connecting = False
            else:
                if side.pending and events & (select.EPOLLOUT | select.EPOLLERR | select.EPOLLHUP):
                    self._write(side)
                if not side.ended and not other.pending and events & ~select.EPOLLOUT:
                    self._read(side, other)
        except OSError:
            self.abort()
            return
        for one, another in ((self._client, self._server), (self._server, self._client)):
            if one.ended and not another.pending and not another.shut:
                another.shut = True
                try:
                    another.sock.shutdown(socket.SHUT_WR)
                except OSError:
                    self.abort()
                    return
        if self._client.shut and self._server.shut:
            self._close()
        else:
            self._rewatch()

    def _read(self, side: _Side, other: _Side) -> None:
        try:
            data = side.sock.recv(_CHUNK)
        except BlockingIOError:
            return
        if not data:
            side.ended = True
            return
        other.pending = data
        self._write(other)

    @staticmethod
    def _write(side: _Side) -> None:
        try:
            side.pending = side.pending[side.sock.send(side.pending) :]
        except BlockingIOError:
            return

    def abort(self) -> None:
        """End it so that both peers see that it went wrong."""
        if not self._done:
            for side in (self._client, self._server):
                side.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._close()

    def _close(self) -> None:
        self._done = True
        for side in (self._client, self._server):
            self._proxy.unwatch(side.sock.fileno())
            side.sock.close()
        self._stream.connections.discard(self)
        self._proxy.ended()


class _Flow:
    """A UDP client: its socket to the container, and from where it is answered."""

    __slots__ = ("info", "last", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self.info, self.last = sock, b"", time.monotonic()


class _Datagrams:
    """A UDP socket. Each client has a flow, so that the container's answers find it."""

    def __init__(self, proxy: PortProxy, sock: socket.socket, target: "Address") -> None:
        self.proxy, self.sock, self.target = proxy, sock, target
        self.flows: dict[tuple[object, ...], _Flow] = {}  # the one idle the longest first
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, _RECVPKTINFO, 1)
        proxy.watch(sock.fileno(), select.EPOLLIN, self._from_clients)

    def close(self) -> None:
        self.proxy.unwatch(self.sock.fileno())
        self.sock.close()
        for client in list(self.flows):
            self._end(client)

    def expire(self, now: float) -> float:
        """Seconds until the next flow was idle for too long."""
        while self.flows:
            client, flow = next(iter(self.flows.items()))
            left = flow.last + IDLE_UDP_S - now
            if left > 0:
                return left
            self._end(client)
        return IDLE_UDP_S

    def _end(self, client: tuple[object, ...]) -> None:
        flow = self.flows.pop(client)
        self.proxy.unwatch(flow.sock.fileno())
        flow.sock.close()
        self.proxy.ended()

    def _flow(self, client: tuple[object, ...]) -> _Flow | None:
        flow = self.flows.pop(client, None)
        if flow is None:
            while self.flows and not self.proxy.may_have(len(self.flows)):
                self._end(next(iter(self.flows)))  # a new client rather than one that was quiet
            if not self.proxy.may_have(len(self.flows)):
                return None
            try:
                sock = socket.socket(_family(self.target), socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            except OSError:
                return None
            sock.setblocking(False)
            try:
                sock.connect(self.target)
            except OSError:
                sock.close()
                return None
            self.proxy.open += 1
            flow = _Flow(sock)
            self.proxy.watch(sock.fileno(), select.EPOLLIN, lambda _got: self._to_client(client))
        flow.last = time.monotonic()
        self.flows[client] = flow
        return flow

    def _from_clients(self, _events: int) -> None:
        for _ in range(_BURST):
            try:
                data, ancillary, _flags, client = self.sock.recvmsg(65535, socket.CMSG_SPACE(20))
            except BlockingIOError:
                return
            except OSError:
                continue  # an answer of ours came back as unreachable
            flow = self._flow(client)
            if flow is None:
                continue
            for level, kind, content in ancillary:
                if (level, kind) == (socket.IPPROTO_IPV6, _PKTINFO):
                    flow.info = content
            try:
                flow.sock.send(data)
            except OSError:
                continue  # nobody listens in the container, or its buffer is full: UDP promises nothing

    def _to_client(self, client: tuple[object, ...]) -> None:
        flow = self.flows[client]
        for _ in range(_BURST):
            try:
                data = flow.sock.recv(65535)
            except BlockingIOError:
                return
            except OSError:
                return  # the container answered that nobody listens
            flow.last = time.monotonic()
            # From the address that the client sent to: the kernel would choose another of the host's.
            info = [(socket.IPPROTO_IPV6, _PKTINFO, flow.info)] if flow.info else []
            try:
                self.sock.sendmsg([data], info, 0, client)
            except OSError:
                continue


def _family(target: "Address") -> int:
    return socket.AF_INET6 if ":" in target[0] else socket.AF_INET

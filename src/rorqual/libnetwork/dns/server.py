"""The resolver process, one an engine: answers at 127.0.0.11 in every sandbox that has names to ask for, and serves
those clients of published ports that the kernel cannot lead to a container (`portproxy`).

It outlives the daemon, as containers do: what it knows is in its memory, and what it listens on are sockets that the
daemon opened inside the sandboxes and passed here. The daemon talks to it by the socket that is its standard input,
SOCK_SEQPACKET, one JSON object a packet, fds by SCM_RIGHTS:

    {"op": "hello"}                      the answers: {"version": n, "sandboxes": [id, ...], "ports": [key, ...],
                                         "more": b}, until not more; nothing else is answered
    {"op": "sandbox", "id", "networks": [id, ...], "links": {network id: {alias: name}},
     "servers": [[address, from_host], ...], "forward": b}   + fds when new: UDP socket, listening TCP socket, namespace
    {"op": "drop-sandbox", "id"}
    {"op": "endpoint", "network", "network_name", "id", "names": [...], "ip", "ip6"}
    {"op": "drop-endpoint", "network", "id"}
    {"op": "begin"} ... {"op": "commit"} the endpoints between them are all there are: they take the place of those
                                         known before at the commit, so that nobody is asked in between
    {"op": "port", "key", "proto", "target": [address, port]}   + 1 fd: the bound (and listening) socket
    {"op": "drop-ports", "keys": [...]}                         + 1 fd, closed when that is done
    {"op": "exit"}

It ends when told so, or when it has neither sandbox nor port and the daemon is gone. Single-threaded; imports as little
as it can.
"""

import array
import json
import os
import resource
import select
import signal
import socket
import sys
import time

from rorqual.libnetwork.dns import message
from rorqual.libnetwork.dns.forward import PENDING_MAX, Forwarder, Question
from rorqual.libnetwork.dns.zone import Directory, View
from rorqual.libnetwork.portproxy import PortProxy
from rorqual.linux import capabilities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    JSON = dict[str, Any]
    Handler = Callable[[int], None]

VERSION = 2  # of what is said on the socket, and of what is answered: another daemon's resolver is replaced
PACKET_MAX = 1 << 17
_BURST = 64  # datagrams read from one sandbox before the others have their turn
_CONNECTIONS_MAX = 64  # TCP clients of one sandbox
_CONNECTION_IDLE_S = 10.0
_FORWARDS_MAX = 256  # of one sandbox, so that it cannot take all of the engine's
_FDS = 3
_HELLO_IDS = 500


class _Sandbox:
    """A sandbox's sockets and view. It owns its fds."""

    __slots__ = ("connections", "forwarding", "netns", "tcp", "udp", "view")

    def __init__(self, view: View, udp: socket.socket, tcp: socket.socket, netns: int) -> None:
        self.view, self.udp, self.tcp, self.netns = view, udp, tcp, netns
        self.connections: dict[int, _Connection] = {}
        self.forwarding = 0


class _Connection:
    """A TCP client."""

    __slots__ = ("buffer", "last", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self.buffer, self.last = sock, b"", time.monotonic()


class Server:
    """The loop and everything in it."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._forwarder = Forwarder(self._watch, self._unwatch)
        self._ports = PortProxy(self._watch, self._unwatch)
        self._directory = Directory()
        self._next: Directory | None = None
        self._sandboxes: dict[str, _Sandbox] = {}
        self._controls: dict[int, socket.socket] = {}
        self._done = False

    def run(self) -> None:
        """Serve until told to end."""
        self._listener.setblocking(False)
        self._watch(self._listener.fileno(), select.EPOLLIN, self._accept_control)
        while not self._done:
            now = time.monotonic()
            waits = [self._forwarder.expire(now), self._ports.expire(now)]
            if any(sandbox.connections for sandbox in self._sandboxes.values()):
                self._drop_idle(now)
                waits.append(_CONNECTION_IDLE_S)
            ready = self._epoll.poll(min((wait for wait in waits if wait is not None), default=-1))
            # What the daemon says first: a name told before it is asked for is known.
            ready.sort(key=lambda item: item[0] not in self._controls)
            for fd, events in ready:
                handler = self._handlers.get(fd)
                if handler is not None:
                    handler(events)

    def _watch(self, fd: int, events: int, handler: "Handler") -> None:
        if fd in self._handlers:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def _unwatch(self, fd: int) -> None:
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    # --- the daemon

    def _accept_control(self, _events: int) -> None:
        sock, _ = self._listener.accept()
        peer = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        if int.from_bytes(peer[4:8], sys.byteorder) != os.getuid():
            sock.close()
            return
        sock.setblocking(False)
        self._controls[sock.fileno()] = sock
        self._watch(sock.fileno(), select.EPOLLIN, lambda _got: self._control(sock))

    def _control(self, sock: socket.socket) -> None:
        while sock.fileno() in self._controls:
            fds = array.array("i")
            try:
                data, ancillary, _flags, _ = sock.recvmsg(PACKET_MAX, socket.CMSG_LEN(_FDS * fds.itemsize))
            except BlockingIOError:
                return
            except OSError:
                data, ancillary = b"", []
            for level, kind, content in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
            if not data:
                self._close_control(sock)
                return
            try:
                self._obey(sock, json.loads(data), list(fds))
            except (BrokenPipeError, ConnectionResetError):
                self._close_control(sock)  # it was killed before it heard the answer
            except (ValueError, KeyError, TypeError, OSError) as error:
                sys.stderr.write(f"rorqual dns: cannot do what the daemon asks: {error!r}\n")

    def _close_control(self, sock: socket.socket) -> None:
        del self._controls[sock.fileno()]
        self._unwatch(sock.fileno())
        sock.close()
        self._next = None
        if not self._sandboxes and not self._ports.keys() and not self._controls:
            self._done = True

    def _obey(self, sock: socket.socket, order: "JSON", fds: list[int]) -> None:
        op = order["op"]
        if op == "sandbox":
            self._put_sandbox(order, fds)
            return
        if op == "port" and len(fds) == 1:
            address, port = order["target"]
            self._ports.put(order["key"], order["proto"], (address, port), socket.socket(fileno=fds.pop()))
        elif op == "drop-ports":
            for key in order["keys"]:
                self._ports.drop(key)
        for fd in fds:
            os.close(fd)
        if op == "endpoint":
            (self._next or self._directory).put(order["network"], order["network_name"], order["id"], order)
        elif op == "drop-endpoint":
            self._directory.drop(order["network"], order["id"])
        elif op == "drop-sandbox":
            self._drop_sandbox(order["id"])
        elif op == "hello":
            idents, keys = list(self._sandboxes), self._ports.keys()
            size = max(len(idents), len(keys), 1)
            for at in range(0, size, _HELLO_IDS):
                end = at + _HELLO_IDS
                answer = {"version": VERSION, "sandboxes": idents[at:end], "ports": keys[at:end], "more": end < size}
                sock.send(json.dumps(answer).encode())
        elif op == "begin":
            self._next = Directory()
        elif op == "commit" and self._next is not None:
            self._directory, self._next = self._next, None
        elif op == "exit":
            self._done = True

    def _put_sandbox(self, order: "JSON", fds: list[int]) -> None:
        ident, view = order["id"], View(order)
        if len(fds) == _FDS:
            self._drop_sandbox(ident)
            udp, tcp = (socket.socket(fileno=fd) for fd in fds[:2])
            udp.setblocking(False)
            tcp.setblocking(False)
            sandbox = self._sandboxes[ident] = _Sandbox(view, udp, tcp, fds[2])
            self._watch(udp.fileno(), select.EPOLLIN, lambda _got: self._datagrams(sandbox))
            self._watch(tcp.fileno(), select.EPOLLIN, lambda _got: self._accept(sandbox))
            return
        for fd in fds:
            os.close(fd)
        known = self._sandboxes.get(ident)
        if known is not None:
            known.view = view

    def _drop_sandbox(self, ident: str) -> None:
        sandbox = self._sandboxes.pop(ident, None)
        if sandbox is None:
            return
        self._forwarder.forget(sandbox.netns)
        for connection in list(sandbox.connections.values()):
            self._hang_up(sandbox, connection)
        for sock in (sandbox.udp, sandbox.tcp):
            self._unwatch(sock.fileno())
            sock.close()
        os.close(sandbox.netns)

    # --- questions

    def _datagrams(self, sandbox: _Sandbox) -> None:
        sock = sandbox.udp
        for _ in range(_BURST):
            try:
                data, client = sock.recvfrom(4096)
            except BlockingIOError:
                return
            except OSError:
                continue  # an answer of ours came back as unreachable

            def reply(answer: bytes, client: "Any" = client) -> None:
                try:
                    sock.sendto(answer, client)
                except OSError:
                    pass  # the client is gone, or its buffer is full: it will ask again

            self._question(sandbox, data, reply, stream=False)

    def _question(self, sandbox: _Sandbox, data: bytes, reply: "Callable[[bytes], None]", *, stream: bool) -> None:
        query = message.parse(data)
        if query is None:
            if message.is_query(data):
                reply(message.failure(data, b"", message.FORMERR))
            return
        found = self._directory.resolve(sandbox.view, query)
        if found is not None:
            reply(message.answer(query, found, limit=message.TCP_MAX if stream else query.limit))
            return
        view = sandbox.view
        # Nobody gets more than half of what is free, so that there is always something for who has little.
        share = min(_FORWARDS_MAX, (PENDING_MAX - len(self._forwarder)) // 2)
        if not view.forward or not view.servers or sandbox.forwarding >= share:
            reply(message.answer(query, code=message.SERVFAIL))
            return
        ident = data[:2]
        sandbox.forwarding += 1

        def answered(answer: bytes) -> None:
            sandbox.forwarding -= 1
            reply(ident + answer[2:])

        self._forwarder.ask(Question(data, query.raw, list(view.servers), sandbox.netns, stream, answered))

    # --- TCP

    def _accept(self, sandbox: _Sandbox) -> None:
        try:
            sock, _ = sandbox.tcp.accept()
        except OSError:
            return
        if len(sandbox.connections) >= _CONNECTIONS_MAX:
            sock.close()
            return
        sock.setblocking(False)
        connection = _Connection(sock)
        sandbox.connections[sock.fileno()] = connection
        self._watch(sock.fileno(), select.EPOLLIN, lambda _got: self._read(sandbox, connection))

    def _read(self, sandbox: _Sandbox, connection: _Connection) -> None:
        try:
            data = connection.sock.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._hang_up(sandbox, connection)
            return
        connection.last = time.monotonic()
        connection.buffer += data
        while len(connection.buffer) >= 2:
            length = int.from_bytes(connection.buffer[:2], "big")
            if length > 4096:  # no question is that long
                self._hang_up(sandbox, connection)
                return
            if len(connection.buffer) < 2 + length:
                return
            question = connection.buffer[2 : 2 + length]
            connection.buffer = connection.buffer[2 + length :]
            self._question(sandbox, question, lambda answer: self._write(sandbox, connection, answer), stream=True)
            if connection.sock.fileno() < 0:
                return

    def _write(self, sandbox: _Sandbox, connection: _Connection, answer: bytes) -> None:
        if connection.sock.fileno() < 0:
            return
        framed = len(answer).to_bytes(2, "big") + answer
        try:
            sent = connection.sock.send(framed)
        except OSError:
            sent = 0
        if sent < len(framed):  # it does not read what it asked for
            self._hang_up(sandbox, connection)

    def _hang_up(self, sandbox: _Sandbox, connection: _Connection) -> None:
        fd = connection.sock.fileno()
        sandbox.connections.pop(fd, None)
        self._unwatch(fd)
        connection.sock.close()

    def _drop_idle(self, now: float) -> None:
        for sandbox in self._sandboxes.values():
            for connection in list(sandbox.connections.values()):
                if now - connection.last > _CONNECTION_IDLE_S:
                    self._hang_up(sandbox, connection)


def main() -> None:
    """Standard input is the listening control socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the daemon's terminal's; its containers go on asking
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # Joining a sandbox's namespace for a question's socket is all that it has to be root for.
    needed = capabilities.mask(("CAP_SYS_ADMIN",))
    capabilities.set_all(needed, needed, 0)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # three a sandbox
    with socket.socket(fileno=0) as listener:
        Server(listener).run()


if __name__ == "__main__":
    main()

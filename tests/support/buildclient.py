"""A BuildKit client in Python: what buildx does on /session and /grpc, and what a hostile one would.

Source: buildkit's client and session packages, fsutil's send.go.
"""

import asyncio
import contextlib
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError, StreamTerminatedError
from grpclib.server import Server

from rorqual.rpc import h2c
from rorqual.rpc.proto.buildkit_control_grpc import ControlStub
from rorqual.rpc.proto.buildkit_control_pb2 import (
    Exporter,
    SolveRequest,
    StatusRequest,
    StatusResponse,
    Vertex,
)
from rorqual.rpc.proto.buildkit_session_pb2 import (
    BytesMessage,
    CheckAgentRequest,
    CheckAgentResponse,
    CredentialsRequest,
    CredentialsResponse,
    GetSecretRequest,
    GetSecretResponse,
    Packet,
    Stat,
)

GO_DIRECTORY, GO_SYMLINK = 1 << 31, 1 << 27


@dataclass
class Link:
    """A symbolic link in a tree."""

    target: str


Tree = Mapping[str, "bytes | Link | None"]  # None: a directory


def packets(tree: Tree) -> list[Packet]:
    """The stats of a tree, parents first, as the sender has them."""
    out = []
    for path in sorted(tree, key=lambda path: path.split("/")):
        content = tree[path]
        one = Stat(path=path, mode=0o644, modTime=1_700_000_000_000_000_000)
        if content is None:
            one.mode = GO_DIRECTORY | 0o755
        elif isinstance(content, Link):
            one.mode, one.linkname = GO_SYMLINK | 0o777, content.target
        else:
            one.size = len(content)
        out.append(Packet(type=Packet.STAT, stat=one))
    return [*out, Packet(type=Packet.STAT)]


@dataclass
class Offered:
    """What the client gives. `raw`: packets instead of a directory's own; `asked`: the metadata of each request."""

    trees: dict[str, Tree] = field(default_factory=dict)
    secrets: dict[str, bytes] = field(default_factory=dict)
    agents: dict[str, Callable[[bytes], bytes]] = field(default_factory=dict)
    raw: dict[str, list[Packet]] = field(default_factory=dict)
    upload: bytes = b""
    received: dict[str, bytes] = field(default_factory=dict)  # the files of outputs
    output: bytes = b""
    asked: list[dict[str, list[str]]] = field(default_factory=list)

    def __mapping__(self) -> dict[str, Handler]:
        both, one = Cardinality.STREAM_STREAM, Cardinality.UNARY_UNARY
        return {
            "/moby.filesync.v1.FileSync/DiffCopy": Handler(self.send, both, Packet, Packet),
            "/moby.filesync.v1.Auth/Credentials": Handler(
                self.credentials, one, CredentialsRequest, CredentialsResponse
            ),
            "/moby.buildkit.secrets.v1.Secrets/GetSecret": Handler(
                self.secret, one, GetSecretRequest, GetSecretResponse
            ),
            "/moby.sshforward.v1.SSH/CheckAgent": Handler(self.check, one, CheckAgentRequest, CheckAgentResponse),
            "/moby.sshforward.v1.SSH/ForwardAgent": Handler(self.agent, both, BytesMessage, BytesMessage),
            "/moby.upload.v1.Upload/Pull": Handler(self.pull, both, BytesMessage, BytesMessage),
            "/moby.filesync.v1.FileSend/DiffCopy": Handler(self.take, both, BytesMessage, BytesMessage),
        }

    async def send(self, stream: Any) -> None:
        metadata: dict[str, list[str]] = {}
        for key, value in stream.metadata.items():
            metadata.setdefault(key, []).append(value)
        self.asked.append(metadata)
        name = metadata["dir-name"][0]
        if name in self.raw:
            for packet in self.raw[name]:
                await stream.send_message(packet)
            while (packet := await stream.recv_message()) is not None:
                if packet.type == Packet.ERR:
                    raise GRPCError(Status.UNKNOWN, packet.data.decode())
            return
        follow = metadata.get("followpaths", [])
        tree = {
            path: content
            for path, content in self.trees.get(name, {}).items()
            if not follow or any(path == p or path.startswith(f"{p}/") or p.startswith(f"{path}/") for p in follow)
        }
        stats = packets(tree)
        for packet in stats:
            await stream.send_message(packet)
        while (packet := await stream.recv_message()) is not None:
            if packet.type == Packet.FIN:
                await stream.send_message(Packet(type=Packet.FIN))
            elif packet.type == Packet.REQ:
                data = tree[stats[packet.ID].stat.path]
                assert isinstance(data, bytes)
                for start in range(0, len(data), 32768):
                    piece = data[start : start + 32768]
                    await stream.send_message(Packet(type=Packet.DATA, ID=packet.ID, data=piece))
                await stream.send_message(Packet(type=Packet.DATA, ID=packet.ID))
            else:
                raise GRPCError(Status.UNKNOWN, packet.data.decode())

    async def credentials(self, stream: Any) -> None:
        await stream.recv_message()
        await stream.send_message(CredentialsResponse())

    async def secret(self, stream: Any) -> None:
        id = (await stream.recv_message()).ID
        if id not in self.secrets:
            raise GRPCError(Status.NOT_FOUND, f"secret {id} not found")
        await stream.send_message(GetSecretResponse(data=self.secrets[id]))

    async def check(self, stream: Any) -> None:
        id = (await stream.recv_message()).ID
        if id not in self.agents:
            raise GRPCError(Status.NOT_FOUND, f"unset ssh forward key {id}")
        await stream.send_message(CheckAgentResponse())

    async def agent(self, stream: Any) -> None:
        answer = self.agents[stream.metadata["buildkit.ssh.id"]]
        while (message := await stream.recv_message()) is not None:
            await stream.send_message(BytesMessage(data=answer(message.data)))

    async def pull(self, stream: Any) -> None:
        for start in range(0, len(self.upload), 65536):
            await stream.send_message(BytesMessage(data=self.upload[start : start + 65536]))

    async def take(self, stream: Any) -> None:
        """A tar; its messages are read as bytes, whatever they are."""
        while (message := await stream.recv_message()) is not None:
            self.output += message.data


class OutputDirectory(Offered):
    """As Offered, with a directory for output."""

    def __mapping__(self) -> dict[str, Handler]:
        both = Cardinality.STREAM_STREAM
        return {
            **super().__mapping__(),
            "/moby.filesync.v1.FileSend/DiffCopy": Handler(self.receive, both, Packet, Packet),
        }

    async def receive(self, stream: Any) -> None:
        names: list[tuple[str, bool]] = []
        while (packet := await stream.recv_message()).HasField("stat"):
            names.append((packet.stat.path, not packet.stat.mode & (GO_DIRECTORY | GO_SYMLINK)))
        for number, (name, wanted) in enumerate(names):
            if not wanted:
                continue
            await stream.send_message(Packet(type=Packet.REQ, ID=number))
            data = b""
            while piece := (await stream.recv_message()).data:
                data += piece
            self.received[name] = data
        await stream.send_message(Packet(type=Packet.FIN))
        while await stream.recv_message() is not None:
            pass


@dataclass
class Told:
    """What a build said: its vertices as they were last, its output, what Solve answered."""

    vertices: dict[str, Vertex] = field(default_factory=dict)
    log: bytes = b""
    totals: dict[str, int] = field(default_factory=dict)  # of what was counted, by its name before the colon
    response: dict[str, str] = field(default_factory=dict)
    error: str = ""

    def add(self, message: StatusResponse) -> None:
        for vertex in message.vertexes:
            self.vertices[vertex.name] = vertex
        self.totals |= {status.name.partition(":")[0]: status.current for status in message.statuses}
        self.log += b"".join(entry.msg for entry in message.logs)


class BuildClient:
    """On one engine's socket."""

    def __init__(self, host: str, offered: Offered, *, shared_key: str = "") -> None:
        self._shared_key = shared_key
        self._path = host.removeprefix("unix://")
        self.offered = offered
        self.session = secrets.token_hex(8)

    async def _upgrade(self, path: str, headers: Sequence[tuple[str, str]] = ()) -> tuple[socket.socket, bytes]:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(self._path)
        lines = [f"POST {path} HTTP/1.1", "Host: x", "Connection: Upgrade", "Upgrade: h2c"]
        lines += [f"{name}: {value}" for name, value in headers]
        sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        sock.setblocking(False)
        answer = b""
        while b"\r\n\r\n" not in answer:
            piece = await asyncio.get_running_loop().sock_recv(sock, 65536)
            assert piece, answer
            answer += piece
        head, _, early = answer.partition(b"\r\n\r\n")
        if b" 101 " not in head:
            sock.close()
            raise ConnectionError(answer.decode())
        return sock, early

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[h2c.TakenChannel]:
        """With a session; the channel of /grpc."""
        methods = [("X-Docker-Expose-Session-Grpc-Method", name) for name in self.offered.__mapping__()]
        headers = [("X-Docker-Expose-Session-Uuid", self.session), *methods]
        headers.append(("X-Docker-Expose-Session-Sharedkey", self._shared_key))
        server = Server([self.offered])
        session = await h2c.serve(server, *await self._upgrade("/session", headers))
        channel = h2c.TakenChannel(*await self._upgrade("/grpc"))
        await channel.connect()
        try:
            yield channel
        finally:
            channel.close()
            session.processor.close()
            await channel.ended.wait()
            await asyncio.sleep(0)

    async def build(
        self, attributes: Mapping[str, str], exports: Sequence[Exporter] = (), *, frontend: str = "dockerfile.v0"
    ) -> Told:
        """By Control.Solve alone."""
        told, ref = Told(), secrets.token_hex(8)
        async with self.connected() as channel:
            control = ControlStub(channel)

            async def follow() -> None:
                with contextlib.suppress(StreamTerminatedError):
                    async with control.Status.open() as stream:
                        await stream.send_message(StatusRequest(Ref=ref), end=True)
                        async for message in stream:
                            told.add(message)

            following = asyncio.create_task(follow())
            request = SolveRequest(
                Ref=ref, Session=self.session, Frontend=frontend, FrontendAttrs=attributes, Exporters=exports
            )
            try:
                told.response = dict((await control.Solve(request)).ExporterResponse)
            except GRPCError as e:
                told.error = e.message or e.status.name
            await following
        return told

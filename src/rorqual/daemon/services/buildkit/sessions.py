"""Sessions: connections that clients opened for the engine to call them on. What they offer stands in the head.

    POST /session, Upgrade: h2c  ->  Sessions.add  ->  calls of a build: files, credentials, secrets, ssh, outputs

Source: buildkit's session package.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from grpclib.client import StreamStreamMethod, UnaryUnaryMethod

from rorqual.daemon.services.buildkit.arrivals import Arrivals
from rorqual.distribution.credentials import ANONYMOUS, Credentials
from rorqual.errdefs import Conflict, InvalidArgument, NotFound
from rorqual.rpc.h2c import TakenChannel
from rorqual.rpc.proto.buildkit_session_pb2 import (
    BytesMessage,
    CheckAgentRequest,
    CheckAgentResponse,
    CredentialsRequest,
    CredentialsResponse,
    GetSecretRequest,
    GetSecretResponse,
    Packet,
)
from rorqual.rpc.status import translated

_HEADER = "X-Docker-Expose-Session-"
_FILES = "/moby.filesync.v1.FileSync/DiffCopy"
_OUTPUT = "/moby.filesync.v1.FileSend/DiffCopy"
_CREDENTIALS = "/moby.filesync.v1.Auth/Credentials"
_SECRET = "/moby.buildkit.secrets.v1.Secrets/GetSecret"
_AGENT = "/moby.sshforward.v1.SSH/CheckAgent"
_AGENT_STREAM = "/moby.sshforward.v1.SSH/ForwardAgent"
_UPLOAD = "/moby.upload.v1.Upload/Pull"
_HUB = "registry-1.docker.io"  # by which clients know Docker Hub
_READ_BYTES = 32 << 10
_WHO = "the build's client"


@dataclass(frozen=True, slots=True)
class ClientSession:
    """One client's. `methods`: the paths of what it offers. `shared_key`: the same for the same directory's builds."""

    id: str
    shared_key: str
    methods: frozenset[str]
    channel: TakenChannel

    def _need(self, method: str, what: str) -> None:
        if method not in self.methods:
            raise InvalidArgument(f"the build's client offers no {what}")

    async def credentials(self, domain: str) -> Credentials:
        """For a registry; anonymous where it has none."""
        if _CREDENTIALS not in self.methods:
            return ANONYMOUS
        method = UnaryUnaryMethod(self.channel, _CREDENTIALS, CredentialsRequest, CredentialsResponse)
        with translated(_WHO):
            answer = await method(CredentialsRequest(Host=_HUB if domain == "docker.io" else domain))
        if not answer.Secret:
            return ANONYMOUS
        if not answer.Username:
            return Credentials(identity_token=answer.Secret)
        return Credentials(answer.Username, answer.Secret)

    async def secret(self, id: str) -> bytes | None:
        """Its bytes; None for one that the client was not given."""
        if _SECRET not in self.methods:
            return None
        method = UnaryUnaryMethod(self.channel, _SECRET, GetSecretRequest, GetSecretResponse)
        try:
            with translated(_WHO):
                return (await method(GetSecretRequest(ID=id))).data
        except NotFound:
            return None

    async def has_agent(self, id: str) -> bool:
        """Whether it forwards the ssh agent `id`."""
        if _AGENT not in self.methods:
            return False
        method = UnaryUnaryMethod(self.channel, _AGENT, CheckAgentRequest, CheckAgentResponse)
        try:
            with translated(_WHO):
                await method(CheckAgentRequest(ID=id))
        except (NotFound, InvalidArgument):
            return False
        return True

    async def forward(self, id: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection to that agent, to its end."""
        method = StreamStreamMethod(self.channel, _AGENT_STREAM, BytesMessage, BytesMessage)
        with translated(_WHO):
            async with method.open(metadata=[("buildkit.ssh.id", id)]) as stream:
                await stream.send_request()

                async def sent() -> None:
                    while data := await reader.read(_READ_BYTES):
                        await stream.send_message(BytesMessage(data=data))
                    await stream.end()

                sending = asyncio.create_task(sent(), name="to the ssh agent")
                try:
                    while (message := await stream.recv_message()) is not None:
                        writer.write(message.data)
                        await writer.drain()
                finally:
                    sending.cancel()
                    await asyncio.gather(sending, return_exceptions=True)

    def files(self) -> StreamStreamMethod[Packet, Packet]:
        """Opens a directory of the client's. Raises: InvalidArgument."""
        self._need(_FILES, "files")
        return StreamStreamMethod(self.channel, _FILES, Packet, Packet)

    def output(self) -> StreamStreamMethod[BytesMessage, BytesMessage]:
        """Opens the client's place for one file. Raises: InvalidArgument."""
        self._need(_OUTPUT, "place for output")
        return StreamStreamMethod(self.channel, _OUTPUT, BytesMessage, BytesMessage)

    def output_directory(self) -> StreamStreamMethod[Packet, Packet]:
        """Opens the client's directory for output. Raises: InvalidArgument."""
        self._need(_OUTPUT, "place for output")
        return StreamStreamMethod(self.channel, _OUTPUT, Packet, Packet)

    def upload(self) -> StreamStreamMethod[BytesMessage, BytesMessage]:
        """Opens what the client has from its standard input. Raises: InvalidArgument."""
        self._need(_UPLOAD, "upload")
        return StreamStreamMethod(self.channel, _UPLOAD, BytesMessage, BytesMessage)


class Sessions:
    """Those that are open."""

    def __init__(self) -> None:
        self._open: Arrivals[ClientSession] = Arrivals("no active session for {}")

    def check(self, headers: Mapping[str, str]) -> None:
        """Raises: InvalidArgument, Conflict."""
        id = headers.get(f"{_HEADER}Uuid", "")
        if not id:
            raise InvalidArgument("a session needs an ID")
        if id in self._open:
            raise Conflict(f"session {id} already exists")

    async def add(self, headers: Mapping[str, str], sock: socket.socket, early: bytes) -> None:
        """The session on that socket, to its end."""
        id = headers[f"{_HEADER}Uuid"]
        methods = frozenset(word.strip() for word in headers.get(f"{_HEADER}Grpc-Method", "").split(","))
        channel = TakenChannel(sock, early)
        await channel.connect()
        session = ClientSession(id, headers.get(f"{_HEADER}Sharedkey", ""), methods, channel)
        await self._open.add(id, session)
        try:
            await channel.ended.wait()
        finally:
            self._open.remove(id)
            channel.close()

    async def find(self, id: str) -> ClientSession:
        """Waits a moment for one that is about to come. Raises: NotFound."""
        return await self._open.find(id)

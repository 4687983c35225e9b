"""RUN: a container on the image so far, its output into the build's, its changes the next layer."""

from __future__ import annotations

import asyncio
import codecs
import itertools
import logging
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from rorqual.api.config import ContainerConfig, HealthConfig, HostConfig
from rorqual.api.container import CreateRequest
from rorqual.daemon.services.build.telling import Teller
from rorqual.daemon.services.containers.attach import Streams
from rorqual.daemon.services.containers.create import Creator
from rorqual.daemon.services.containers.lifecycle import Lifecycle
from rorqual.daemon.services.containers.record import Container
from rorqual.daemon.services.containers.registry import Registry
from rorqual.daemon.services.containers.start import Starter
from rorqual.errdefs import Error
from rorqual.rpc.stream import Attach

log = logging.getLogger(__name__)

_OUT, _ERR = 1, 2
_HEADER_BYTES = 8
_READ_BYTES = 64 << 10


@dataclass(slots=True)
class _Socket:
    """The shim's end of a container's output: what services.containers.attach hands over."""

    sock: socket.socket

    def take(self) -> tuple[int, bytes]:
        return os.dup(self.sock.fileno()), b""

    def write(self, data: bytes) -> None:
        self.sock.sendall(data)

    def close(self) -> None:
        self.sock.close()


class Runner:
    """Runs commands in containers."""

    def __init__(
        self, registry: Registry, creator: Creator, starter: Starter, lifecycle: Lifecycle, streams: Streams
    ) -> None:
        self._registry = registry
        self._creator = creator
        self._starter = starter
        self._lifecycle = lifecycle
        self._streams = streams

    async def create(
        self, image: str, config: ContainerConfig, command: Sequence[str], env: Sequence[str], host: HostConfig
    ) -> Container:
        """A container that would run the command."""
        request = CreateRequest(
            image=image,
            cmd=tuple(command),
            entrypoint=(),
            env=tuple(env) or None,
            user=config.user,
            working_dir=config.working_dir,
            attach_stdout=True,
            attach_stderr=True,
            healthcheck=HealthConfig(("NONE",)),
            host_config=host,
        )
        container, _ = await self._creator.create(request, "", "", for_build=True)
        return container

    async def run(self, container: Container, teller: Teller) -> int:
        """Its exit code, its output passed on. Cancelled, it is killed."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        attach = Attach(stdout=True, stderr=True, mux=True)
        attaching = asyncio.ensure_future(self._streams.attach(container, attach, _Socket(theirs)))
        starting: asyncio.Task[None] | None = None
        try:
            await asyncio.sleep(0)  # it waits for the task now
            ended = self._lifecycle.waiter(container, "next-exit")
            starting = asyncio.create_task(self._starter.start(container), name="start for a build")
            await asyncio.shield(starting)
            await attaching
            await _passed_on(ours, teller)
            return (await ended).exit_code
        except BaseException:
            attaching.cancel()
            await asyncio.shield(self._kill(container, starting))
            raise
        finally:
            ours.close()

    async def _kill(self, container: Container, starting: asyncio.Task[None] | None) -> None:
        """A start under way comes to its end first: it is whole or nothing."""
        if starting is not None:
            await asyncio.wait({starting})
        try:
            await self._lifecycle.kill(container, "SIGKILL")
        except Error:
            return  # it had ended, or never ran

    async def keep(self, container: Container) -> None:
        """It stays, to be looked at."""
        async with self._registry.held(container):
            container.for_build = False
            await self._registry.save(container)

    async def sweep(self) -> None:
        """Remove what runs, or ran, for builds of a daemon that was killed."""
        for container in [one for one in self._registry if one.for_build]:
            try:
                await self.remove(container)
            except Error as e:
                log.warning("container %s of a build that was cut short: %s", container.id, e)

    async def remove(self, container: Container) -> None:
        """Away with it."""
        await self._lifecycle.remove(container, force=True, volumes=True)


async def _passed_on(sock: socket.socket, teller: Teller) -> None:
    """The frames of both streams as text, in their order, to their end."""
    loop = asyncio.get_running_loop()
    decoders = {kind: codecs.getincrementaldecoder("utf-8")("replace") for kind in (_OUT, _ERR)}
    buffer = b""
    while data := await loop.sock_recv(sock, _READ_BYTES):
        buffer += data
        pieces: list[tuple[int, str]] = []
        while len(buffer) >= _HEADER_BYTES:
            size = int.from_bytes(buffer[4:_HEADER_BYTES], "big")
            if len(buffer) < _HEADER_BYTES + size:
                break
            payload, kind = buffer[_HEADER_BYTES : _HEADER_BYTES + size], buffer[0]
            buffer = buffer[_HEADER_BYTES + size :]
            if kind in decoders:
                pieces.append((kind, decoders[kind].decode(payload)))
        for kind, group in itertools.groupby(pieces, key=lambda piece: piece[0]):
            if text := "".join(piece for _, piece in group):
                await teller.output(text, error=kind == _ERR)
    for kind, decoder in decoders.items():
        if text := decoder.decode(b"", final=True):
            await teller.output(text, error=kind == _ERR)

"""Where a built image goes: a name in the engine, a tar or a directory of the client's.

Source: buildkit's exporter (local, tar) and moby's builder-next/exporter.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

from rorqual.daemon.services.build.builder import Builder
from rorqual.daemon.services.build.session import Parts, image_root
from rorqual.daemon.services.buildkit.builds import Build
from rorqual.daemon.services.buildkit.progress import Graph, Running
from rorqual.daemon.services.buildkit.sending import send
from rorqual.daemon.services.buildkit.sessions import ClientSession, Sessions
from rorqual.distribution.pack import Options, Packed, Packer, Stream, Write
from rorqual.errdefs import Error, InvalidArgument, NotImplementedHere
from rorqual.oci import reference as references
from rorqual.rpc.proto.buildkit_session_pb2 import BytesMessage
from rorqual.rpc.status import translated

Export = tuple[str, Mapping[str, str]]  # its kind and attributes


class Exporter:
    """Exports images of builds."""

    def __init__(self, builder: Builder, parts: Parts, sessions: Sessions) -> None:
        self._builder = builder
        self._parts = parts
        self._sessions = sessions

    async def export(self, build: Build, id: str, wanted: Sequence[Export]) -> dict[str, str]:
        """What the client is told. Raises: InvalidArgument, NotImplementedHere, OSError."""
        session = await self._sessions.find(build.session)
        told: dict[str, str] = {}
        for number, (kind, attributes) in enumerate(wanted):
            if kind in ("moby", "image"):
                told |= await self._named(build, id, attributes)
            else:
                await self._sent(build, session, id, kind, number)
        return told

    async def _sent(self, build: Build, session: ClientSession, id: str, kind: str, number: int) -> None:
        """`number`: the export's, among those of the build."""
        if kind not in ("tar", "local"):
            raise NotImplementedHere(f"exporter {kind} is not offered: save the image, or push it")
        vertex = await build.progress.vertex("exporting to client " + ("tarball" if kind == "tar" else "directory"))
        try:
            await (self._tar if kind == "tar" else self._local)(session, id, number, vertex)
        except (Error, OSError) as e:
            await vertex.end(str(e))
            raise
        await vertex.end()

    async def _named(self, build: Build, id: str, attributes: Mapping[str, str]) -> dict[str, str]:
        vertex = await build.progress.vertex("exporting to image")
        try:
            tags = [references.parse(text).with_default_tag() for text in attributes.get("name", "").split(",") if text]
            if any(tag.digest is not None for tag in tags):
                raise InvalidArgument("build tag cannot contain a digest")
            await vertex.status("exporting layers", done=True)
            await vertex.status(f"writing image {id}", done=True)
            for tag in tags:
                await self._builder.tag(id, tag, Graph(build.progress))
                await vertex.status(f"naming to {tag}", done=True)
        except Error as e:
            await vertex.end(str(e))
            raise
        await vertex.end()
        told = {"containerimage.digest": id, "containerimage.config.digest": id}
        return {**told, "image.name": ",".join(map(str, tags))} if tags else told

    async def _tar(self, session: ClientSession, id: str, number: int, vertex: Running) -> None:
        async with self._root(id) as root, Stream(partial(_pack, root)) as stream:
            sent = 0
            with translated("the build's client"):
                async with session.output().open(metadata=[("buildkit-attachable-exporter-id", str(number))]) as call:
                    await call.send_request()
                    async for piece in stream:
                        await call.send_message(BytesMessage(data=piece))
                        sent += len(piece)
                        await vertex.status("sending tarball", sent)
                    await call.end()
                    await call.recv_message()
            await vertex.status("sending tarball", sent, done=True)

    async def _local(self, session: ClientSession, id: str, number: int, vertex: Running) -> None:
        async with self._root(id) as root:
            metadata = [("buildkit-attachable-exporter-id", str(number))]
            sent = await send(session.output_directory(), metadata, root)
            await vertex.status("copying files", sent, done=True)

    @asynccontextmanager
    async def _root(self, id: str) -> AsyncIterator[int]:
        async with image_root(self._parts, await self._parts.library.find(id)) as root:
            if root is None:
                raise InvalidArgument("the build has no files")
            yield root


def _pack(root: int, write: Write) -> Packed:
    packer = Packer(write, Options())
    packer.contents(root, b"")
    return packer.finish()

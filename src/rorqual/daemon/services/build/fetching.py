"""What ADD takes from elsewhere: a URL's file; and what is in an archive of the context."""

from __future__ import annotations

import asyncio
import hashlib
import os
import posixpath
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from urllib.parse import unquote, urlsplit

from rorqual.builder.copying import Source
from rorqual.daemon.services.build.context import PREFIXES
from rorqual.daemon.services.containers import rootfs
from rorqual.distribution import unpack
from rorqual.distribution.errors import RegistryError
from rorqual.distribution.transport import Transport
from rorqual.errdefs import Error, InvalidArgument, Unavailable
from rorqual.linux import paths


@dataclass(frozen=True, slots=True)
class Response:
    """An answer: its media type, Last-Modified as it was sent, and its bytes."""

    kind: str
    modified: str
    pieces: AsyncIterator[bytes]

    @property
    def mtime_s(self) -> int:
        """Seconds since 1970; 0 where nothing is said."""
        from email.utils import parsedate_to_datetime  # late: a megabyte, for ADD of a URL alone

        try:
            return int(parsedate_to_datetime(self.modified).timestamp())
        except (TypeError, ValueError):
            return 0


class Fetcher:
    """Downloads and unpacks. `scratch`: a directory of the daemon's own."""

    def __init__(self, transport: Transport, scratch: str) -> None:
        self._transport = transport
        self._scratch = scratch

    @asynccontextmanager
    async def response(self, url: str) -> AsyncIterator[Response]:
        """What is at a URL. Raises: Unavailable, InvalidArgument."""
        try:
            answer = await self._transport.get_elsewhere(url, {})
        except RegistryError as e:
            raise Unavailable(f"failed to GET {url} with status {e.status}: {e}") from e
        kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        try:
            yield Response(kind, answer.headers.get("Last-Modified", ""), answer.content.iter_any())
        finally:
            answer.close()

    @asynccontextmanager
    async def file(self, url: str, checksum: str) -> AsyncIterator[Source]:
        """The file of a URL, named by its path; 0600, its time the server's. Raises: as response, InvalidArgument."""
        name = posixpath.basename(unquote(urlsplit(url).path))
        if name in ("", ".", ".."):
            raise InvalidArgument(f"cannot determine filename for source {url}")
        algorithm, _, wanted = checksum.partition(":")
        if checksum and (algorithm != "sha256" or len(wanted) != 64):
            raise InvalidArgument(f"unsupported checksum {checksum}: it must be sha256:<64 hex digits>")
        async with self._directory() as (path, root), self.response(url) as response:
            target = os.path.join(path, name)
            hashed = hashlib.sha256()
            fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                async for piece in response.pieces:
                    hashed.update(piece)
                    await asyncio.to_thread(_written, fd, piece)
                os.utime(fd, (response.mtime_s, response.mtime_s))
            finally:
                os.close(fd)
            if checksum and hashed.hexdigest() != wanted:
                raise InvalidArgument(f"digest mismatch sha256:{hashed.hexdigest()}: {checksum}")
            yield Source(root, name)

    @asynccontextmanager
    async def _directory(self) -> AsyncIterator[tuple[str, int]]:
        """A directory of our own and an O_PATH fd of it, for the block."""
        path = await asyncio.to_thread(tempfile.mkdtemp, prefix=PREFIXES[1], dir=self._scratch)
        root = -1
        try:
            root = paths.open_root(path)
            yield path, root
        finally:
            if root >= 0:
                os.close(root)
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, path, True))

    @asynccontextmanager
    async def unpacked(self, root: int, archive: str) -> AsyncIterator[int]:
        """An O_PATH fd of what is in an archive below `root`, for the block. Raises: what unpacking raises."""
        async with self._directory() as (_, inside):
            try:
                await rootfs.in_own_thread(partial(_unpack, root, archive, inside))
            except Error as e:
                raise type(e)(f"ADD {archive}: {e}") from e
            yield inside


def _unpack(root: int, archive: str, inside: int) -> None:
    fd = paths.open_in_root(root, archive.lstrip("/"), os.O_RDONLY, waits=True)
    with open(fd, "rb") as file:
        unpack.apply(file, inside, copying=unpack.Copying(b"/", None, False))


def _written(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]

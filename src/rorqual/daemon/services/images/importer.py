"""POST /images/create with fromSrc: a root filesystem's tar becomes an image of one layer.

Source: Engine API ImageCreate.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from rorqual.api.config import ContainerConfig
from rorqual.daemon.services import clock
from rorqual.daemon.services.events import Events
from rorqual.daemon.services.images import changes
from rorqual.daemon.services.images.commit import image_config
from rorqual.daemon.services.images.library import Library
from rorqual.daemon.services.images.making import Maker
from rorqual.daemon.services.images.stores import Lease
from rorqual.daemon.services.pieces import behind
from rorqual.distribution.errors import RegistryError
from rorqual.distribution.transport import Transport
from rorqual.errdefs import InvalidArgument, Unavailable
from rorqual.oci import platform as platforms
from rorqual.oci.platform import Platform
from rorqual.oci.reference import Reference


class Importer:
    """Makes images of archives."""

    def __init__(self, library: Library, maker: Maker, lease: Lease, events: Events, transport: Transport) -> None:
        self._transport = transport
        self._library = library
        self._maker = maker
        self._lease = lease
        self._events = events

    @asynccontextmanager
    async def fetched(self, source: str) -> AsyncIterator[tuple[str, AsyncIterator[bytes]]]:
        """An archive's URL (http when it names no scheme) and its bytes. Raises: InvalidArgument, Unavailable."""
        url = source if "://" in source else f"http://{source}"
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise InvalidArgument(f"parse {json.dumps(source)}: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidArgument(f"unsupported protocol scheme in {json.dumps(source)}")
        try:
            response = await self._transport.get_elsewhere(url, {})
        except RegistryError as error:
            raise Unavailable(f"failed to GET {url} with status {error.status}: {error}") from error
        try:
            yield url, aiter(response.content.iter_any())
        finally:
            response.close()

    async def import_tar(
        self,
        body: AsyncIterator[bytes],
        name: Reference | None,
        instructions: Sequence[str],
        message: str,
        platform: str,
    ) -> str:
        """The new image's ID. Raises: InvalidArgument for what isn't a tar, DataLoss for a damaged one."""
        wanted = platforms.normalize(platforms.parse(platform)) if platform else platforms.host()
        config = changes.apply(ContainerConfig(), instructions)
        first = await anext(body, b"")
        if not first:
            raise InvalidArgument("the archive is empty")
        async with self._lease.held():
            made = await self._maker.layer(behind(first, body))
            try:
                await self._maker.place(made, None)
            except BaseException:
                await asyncio.shield(self._maker.drop(made))
                raise
            document = _document(wanted, config, message, str(made.diff_id))
            image = await self._maker.image(json.dumps(document, separators=(",", ":")).encode(), [made.descriptor])
            if name is not None:
                await self._library.put(str(name.with_default_tag()), image, clock.now_ns())
            else:
                await self._library.keep(image)
        self._events.publish("image", "import", image.id, {"name": name.familiar if name is not None else image.id})
        return image.id


def _document(wanted: Platform, config: ContainerConfig, message: str, diff_id: str) -> dict[str, Any]:
    created = clock.rfc3339(clock.now_ns())
    document: dict[str, Any] = {
        "architecture": wanted.architecture,
        "os": wanted.os,
        "created": created,
        "comment": message,
        "config": image_config(config).to_json(),
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": created, "comment": message}],
    }
    if wanted.variant:
        document["variant"] = wanted.variant
    return document

"""What layers take on disk, unpacked: asked of the snapshotter once, as a committed snapshot never changes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol

from rorqual.errdefs import NotFound
from rorqual.oci.image import Image


class UsageSource(Protocol):
    """containerd's snapshots."""

    async def usage(self, key: str) -> int:
        """Bytes of a snapshot's own files. Raises: NotFound."""


class Sizes:
    """By chain ID."""

    def __init__(self, snapshots: UsageSource) -> None:
        self._snapshots = snapshots
        self._known: dict[str, int] = {}
        # Each call is a round trip; more at once than this only wait for each other.
        self._slots = asyncio.Semaphore(16)

    async def learn(self, images: Iterable[Image]) -> None:
        """Asks for every layer of `images` that is not known yet."""
        wanted = {chain for image in images for chain in image.chain_ids} - self._known.keys()
        if wanted:
            await asyncio.gather(*(self._ask(chain) for chain in wanted))

    async def _ask(self, chain_id: str) -> None:
        async with self._slots:
            try:
                self._known[chain_id] = await self._snapshots.usage(chain_id)
            except NotFound:
                return  # its blob is here and it is not unpacked

    def layer(self, chain_id: str) -> int:
        """Bytes of a layer that was learnt; 0 when it is not unpacked."""
        return self._known.get(chain_id, 0)

    def image(self, image: Image) -> int:
        """Bytes of all its layers."""
        return sum(self._known.get(chain_id, 0) for chain_id in image.chain_ids)

    def forget(self, chain_ids: Iterable[str]) -> None:
        """Those layers are removed."""
        for chain_id in chain_ids:
            self._known.pop(chain_id, None)

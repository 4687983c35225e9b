"""What a container's files take: its own, and with those of its image's layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from rorqual.daemon.services.containers.record import Container
from rorqual.daemon.services.images.library import LocalImage
from rorqual.daemon.services.images.sizes import Sizes
from rorqual.errdefs import NotFound


class UsageSource(Protocol):
    """containerd's snapshots."""

    async def usage(self, key: str) -> int:
        """Bytes of a snapshot's own files. Raises: NotFound."""


class ImageSource(Protocol):
    """The images that are here."""

    def all_by_id(self) -> Mapping[str, LocalImage]:
        """Each once, those of other platforms too."""


class ContainerSizes:
    """SizeRw and SizeRootFs."""

    def __init__(self, snapshots: UsageSource, images: ImageSource, layers: Sizes) -> None:
        self._snapshots = snapshots
        self._images = images
        self._layers = layers

    async def of(self, container: Container) -> tuple[int, int]:
        """(bytes of its own, bytes with its image's). An image that was removed by force counts nothing."""
        try:
            own = await self._snapshots.usage(container.snapshot_key)
        except NotFound:
            own = 0
        image = self._images.all_by_id().get(container.image_id)
        if image is None:
            return own, own
        await self._layers.learn([image.image])
        return own, own + self._layers.image(image.image)

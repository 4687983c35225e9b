"""Who uses images and volumes: asked by their services, answered from the registry."""

from __future__ import annotations

from rorqual.daemon.services.containers.record import Container
from rorqual.daemon.services.containers.registry import Registry


class Usages:
    """services.images.service.Usage and services.volumes.References."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def using(self, image_id: str) -> list[tuple[str, bool]]:
        """(id, running) of each container made from the image."""
        return [(c.id, c.state.running) for c in self._registry if c.image_id == image_id or _mounts(c, image_id)]

    def volume_users(self, name: str) -> list[str]:
        """Ids of the containers with the volume mounted."""
        return [c.id for c in self._registry if _has_volume(c, name)]

    def volume_runners(self, name: str) -> list[str]:
        """Ids of those of them that run."""
        return [c.id for c in self._registry if c.state.running and _has_volume(c, name)]


def _has_volume(container: Container, name: str) -> bool:
    return any(m.type == "volume" and m.name == name for m in container.mounts)


def _mounts(container: Container, image_id: str) -> bool:
    return any(m.type == "image" and m.name == image_id for m in container.mounts)

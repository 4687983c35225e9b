"""Who uses images and volumes: asked by their services, answered from the registry."""

from __future__ import annotations

from rorqual.daemon.services.containers.registry import Registry


class Usages:
    """services.images.service.Usage and services.volumes.References."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def using(self, image_id: str) -> list[tuple[str, bool]]:
        """(id, running) of each container made from the image."""
        return [(c.id, c.state.running) for c in self._registry if c.image_id == image_id]

    def volume_users(self, name: str) -> list[str]:
        """Ids of the containers with the volume mounted."""
        return [c.id for c in self._registry if any(m.type == "volume" and m.name == name for m in c.mounts)]

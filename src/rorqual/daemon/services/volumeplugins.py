"""Volume plugins: calls are VolumeDriver.<Method> of the protocol in rorqual.plugins.

Source: https://docs.docker.com/engine/extend/plugins_volume/
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from rorqual.errdefs import Internal, InvalidArgument, NotFound, Unavailable
from rorqual.plugins import SOCKETS, SPECS, Plugin, find

_TIMEOUT_S = 30.0


class VolumeDriver:
    """One plugin's volumes. Its methods raise Internal with the plugin's error, Unavailable when it does not answer."""

    def __init__(self, plugin: Plugin) -> None:
        self.name = plugin.name
        self._plugin = plugin

    async def create(self, volume: str, options: Mapping[str, str]) -> None:
        """Make it known to the plugin."""
        await self._call("Create", {"Name": volume, "Opts": dict(options)})

    async def remove(self, volume: str) -> None:
        """Delete it."""
        await self._call("Remove", {"Name": volume})

    async def path(self, volume: str) -> str:
        """Where it is on the host; "" while it is nowhere."""
        return await self._mount_point("Path", {"Name": volume})

    async def mount(self, volume: str, user: str) -> str:
        """Make it usable for `user`, and say where."""
        found = await self._mount_point("Mount", {"Name": volume, "ID": user})
        if not found.startswith("/"):
            raise Internal(f"VolumeDriver.Mount: plugin {self.name} gave no mount point")
        return found

    async def unmount(self, volume: str, user: str) -> None:
        """`user` does not use it any more."""
        await self._call("Unmount", {"Name": volume, "ID": user})

    async def _mount_point(self, method: str, body: dict[str, Any]) -> str:
        """Raises: Internal for what is no text, or none that a path can be."""
        found = (await self._call(method, body)).get("Mountpoint") or ""
        if not isinstance(found, str) or not found.isprintable():
            shown = ascii(found)[:100]
            raise Internal(f"VolumeDriver.{method}: plugin {self.name} gave an invalid mount point: {shown}")
        return found

    async def _call(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        return await asyncio.to_thread(self._plugin.call, f"VolumeDriver.{method}", body)


class VolumePlugins:
    """Finds plugins; one that has answered once is remembered."""

    def __init__(self, sockets: Sequence[str] = SOCKETS, specs: Sequence[str] = SPECS) -> None:
        self._sockets = sockets
        self._specs = specs
        self._known: dict[str, VolumeDriver] = {}

    async def driver(self, name: str) -> VolumeDriver:
        """Raises: NotFound with Docker's text."""
        known = self._known.get(name)
        if known is not None:
            return known
        try:
            plugin = await asyncio.to_thread(find, name, "VolumeDriver", _TIMEOUT_S, self._sockets, self._specs)
        except (NotFound, InvalidArgument, Internal, Unavailable) as e:
            raise NotFound(f"error looking up volume plugin {name}: {e}") from e
        self._known[name] = found = VolumeDriver(plugin)
        return found

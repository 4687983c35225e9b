"""What containerd tells of its parts."""

from __future__ import annotations

import json

from rorqual.daemon.remote.service import Service
from rorqual.rpc.proto import introspection_pb2


class Plugins(Service):
    """containerd.services.introspection.v1."""

    async def snapshotter_status(self, name: str) -> tuple[tuple[str, str], ...]:
        """The lines that a storage driver has for `docker info`; () for one that has none."""
        request = introspection_pb2.PluginsRequest(filters=[f"type==io.containerd.snapshotter.v1,id=={name}"])
        for plugin in (await self._call("Plugins", request)).plugins:
            return tuple((key, value) for key, value in json.loads(plugin.exports.get("status", "[]")))
        return ()

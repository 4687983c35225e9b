"""What containerd tells of itself and its parts."""

from __future__ import annotations

import json
import logging

from google.protobuf.empty_pb2 import Empty

from rorqual.daemon.remote.service import Service
from rorqual.errdefs import Error
from rorqual.rpc.proto import introspection_pb2

log = logging.getLogger(__name__)


class Release(Service):
    """containerd.services.version.v1."""

    async def version(self) -> str:
        """Its own; "" while it is away, and of another's that does not tell."""
        try:
            return str((await self._call("Version", Empty())).version)
        except Error as e:
            log.warning("containerd does not tell its release: %s", e)
            return ""


class Plugins(Service):
    """containerd.services.introspection.v1."""

    async def snapshotter_status(self, name: str) -> tuple[tuple[str, str], ...]:
        """The lines that a storage driver has for `docker info`; () for one that has none."""
        request = introspection_pb2.PluginsRequest(filters=[f"type==io.containerd.snapshotter.v1,id=={name}"])
        for plugin in (await self._call("Plugins", request)).plugins:
            return tuple((key, value) for key, value in json.loads(plugin.exports.get("status", "[]")))
        return ()

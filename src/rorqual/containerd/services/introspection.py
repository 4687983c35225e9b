"""containerd.services.introspection.v1 and version.v1."""

from __future__ import annotations

import asyncio
import json
import os
import platform
from collections.abc import Mapping, Sequence
from typing import Any

from rorqual.containerd.filters import select
from rorqual.containerd.services.calls import receive
from rorqual.containerd.snapshotters.contract import Driver
from rorqual.errdefs import NotFound
from rorqual.rpc.proto import introspection_pb2 as pb
from rorqual.rpc.proto import platform_pb2, rpcstatus_pb2, version_pb2
from rorqual.rpc.proto.introspection_grpc import IntrospectionBase
from rorqual.rpc.proto.version_grpc import VersionBase
from rorqual.version import __version__

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
_SNAPSHOTTER = "io.containerd.snapshotter.v1"
_UNKNOWN = 2  # gRPC's code
_GRPC_SERVICES = (
    "containers",
    "content",
    "diff",
    "events",
    "images",
    "introspection",
    "leases",
    "namespaces",
    "snapshots",
    "tasks",
    "version",
)


class IntrospectionService(IntrospectionBase):
    """`uuid` is this data root's, for as long as it lives."""

    def __init__(self, uuid: str, drivers: Sequence[Driver], refused: Mapping[str, str]) -> None:
        self._uuid = uuid
        self._drivers = {driver.name: driver for driver in drivers}
        machine = platform.machine()
        here = platform_pb2.Platform(os="linux", architecture=_ARCHITECTURES.get(machine, machine))

        def plugin(kind: str, name: str, *, local: bool = False, refused: str = "") -> pb.Plugin:
            error = rpcstatus_pb2.Status(code=_UNKNOWN, message=refused) if refused else None
            platforms = [here] if local else []
            return pb.Plugin(type=f"io.containerd.{kind}", id=name, platforms=platforms, init_err=error)

        self._plugins = [
            plugin("content.v1", "content"),
            *(plugin("snapshotter.v1", name, local=True) for name in self._drivers),
            *(plugin("snapshotter.v1", name, local=True, refused=why) for name, why in sorted(refused.items())),
            plugin("metadata.v1", "sqlite"),
            plugin("differ.v1", "walking", local=True),
            plugin("event.v1", "exchange"),
            plugin("gc.v1", "scheduler"),
            plugin("lease.v1", "manager"),
            plugin("runtime.v2", "task", local=True),
            *(plugin("grpc.v1", name) for name in _GRPC_SERVICES),
        ]

    async def Plugins(self, stream: Any) -> None:
        found = select((await receive(stream)).filters, self._plugins, _field)
        await stream.send_message(pb.PluginsResponse(plugins=[await self._told(plugin) for plugin in found]))

    async def _told(self, plugin: pb.Plugin) -> pb.Plugin:
        """With what a snapshotter says of itself, as JSON: [[key, value], ...]."""
        driver = self._drivers.get(plugin.id) if plugin.type == _SNAPSHOTTER else None
        if driver is None or not (status := await asyncio.to_thread(driver.status)):
            return plugin
        told = pb.Plugin()
        told.CopyFrom(plugin)
        told.exports["status"] = json.dumps(status)
        return told

    async def Server(self, stream: Any) -> None:
        await receive(stream)
        pidns = os.stat("/proc/self/ns/pid").st_ino
        await stream.send_message(pb.ServerResponse(uuid=self._uuid, pid=os.getpid(), pidns=pidns))

    async def PluginInfo(self, stream: Any) -> None:
        request = await receive(stream)
        for plugin in self._plugins:
            if (plugin.type, plugin.id) == (request.type, request.id):
                await stream.send_message(pb.PluginInfoResponse(plugin=plugin))
                return
        raise NotFound(f"plugin {request.type}.{request.id}: not found")


class VersionService(VersionBase):
    """containerd's version is ours."""

    async def Version(self, stream: Any) -> None:
        await receive(stream)
        await stream.send_message(version_pb2.VersionResponse(version=__version__, revision=""))


def _field(plugin: pb.Plugin, path: Sequence[str]) -> str | None:
    match path:
        case ["type"]:
            return plugin.type
        case ["id"]:
            return plugin.id
        case ["capabilities"]:
            return ",".join(plugin.capabilities)
    return None

"""BuildKit's control and gateway services, as buildx calls them on /grpc.

Source: buildkit's api/services/control and frontend/gateway; what of them a Docker engine's clients use.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

from rorqual.api.diskusage import BuildCache
from rorqual.daemon.services import clock
from rorqual.daemon.services.build.caches import Caches, selected
from rorqual.daemon.services.buildkit.builds import Build, Builds
from rorqual.daemon.services.buildkit.exporting import Export, Exporter
from rorqual.daemon.services.buildkit.graphs import NOT_OFFERED, image_of, of_image
from rorqual.daemon.services.buildkit.solving import Solver
from rorqual.errdefs import Error, InvalidArgument, NotFound, NotImplementedHere
from rorqual.oci import platform as platforms
from rorqual.rpc import codes
from rorqual.rpc.grpcserver import LeanServer
from rorqual.rpc.proto import buildkit_control_pb2 as control_pb
from rorqual.rpc.proto import buildkit_gateway_pb2 as gateway_pb
from rorqual.rpc.proto.buildkit_control_grpc import ControlBase
from rorqual.rpc.proto.buildkit_gateway_grpc import LLBBridgeBase
from rorqual.rpc.status import Guarded
from rorqual.version import __version__

_VERSION = control_pb.BuildkitVersion(package="rorqual", version=f"v{__version__}")
_BUILD_ID = "buildkit-controlapi-buildid"
_HOST_GATEWAY = "org.mobyproject.buildkit.worker.moby.host-gateway-ip"
# What the gateway offers, by the names of buildkit's capabilities.
_GATEWAY = ("solve.base", "return", "returnmap", "proto.refarray", "frontend.caps", "gateway.solve.evaluate")
_MORE_GATEWAY = ("gateway.evaluate", "gateway.solve.metadata", "importcaches", "frontend.inputs", "reference.output")
_GRAPH = (
    "source.local", "source.local.excludepatterns", "source.local.followpaths", "source.local.includepatterns",
    "source.local.sessionid", "source.local.sharedkeyhint", "source.local.unique", "source.image", "source.http",
    "exec.meta.base", "exec.meta.network", "exec.meta.proxyenv", "exec.meta.cgroup.parent", "exec.meta.ulimit",
    "exec.mount.bind", "exec.mount.cache", "exec.mount.cache.sharing", "exec.mount.secret", "exec.mount.ssh",
    "exec.mount.tmpfs", "exec.mount.tmpfs.size", "exec.secretenv", "file.base", "constraints", "platform",
    "meta.ignorecache", "meta.description", "meta.exportcache", "exporter.multiple",
)  # fmt: skip


class Control(ControlBase):
    """Builds, their progress, what is kept for them. `gateway_ip` gives the address that is the host to containers."""

    def __init__(
        self,
        builds: Builds,
        solver: Solver,
        exporter: Exporter,
        caches: Caches,
        gateway_ip: Callable[[], Awaitable[str]],
    ) -> None:
        self._builds = builds
        self._solver = solver
        self._exporter = exporter
        self._caches = caches
        self._gateway_ip = gateway_ip

    async def Solve(self, stream: Stream[control_pb.SolveRequest, control_pb.SolveResponse]) -> None:
        """A build, from what its frontend or its client's gateway makes."""
        request = await _received(stream)
        if request.Definition:
            raise NotImplementedHere(NOT_OFFERED)
        wanted: list[Export] = [(one.Type, one.Attrs) for one in request.Exporters]
        if not wanted and request.ExporterDeprecated:
            wanted = [(request.ExporterDeprecated, request.ExporterAttrsDeprecated)]
        with _plainly():
            async with self._builds.begin(request.Ref, request.Session) as build:
                if request.Frontend:
                    id = await self._solver.solve(build, request.Frontend, request.FrontendAttrs)
                else:
                    id = await build.returned
                told = await self._exporter.export(build, id, wanted) if id else {}
                await stream.send_message(control_pb.SolveResponse(ExporterResponse=told))

    async def Status(self, stream: Stream[control_pb.StatusRequest, control_pb.StatusResponse]) -> None:
        """A build's progress, to its end."""
        progress = await self._builds.progress((await _received(stream)).Ref)
        async for message in progress.follow():
            await stream.send_message(message)

    async def ListWorkers(self, stream: Stream[control_pb.ListWorkersRequest, control_pb.ListWorkersResponse]) -> None:
        """The engine itself."""
        await _received(stream)
        await stream.send_message(control_pb.ListWorkersResponse(record=[worker(await self._gateway_ip())]))

    async def Info(self, stream: Stream[control_pb.InfoRequest, control_pb.InfoResponse]) -> None:
        """What answers."""
        await _received(stream)
        await stream.send_message(control_pb.InfoResponse(buildkitVersion=_VERSION))

    async def DiskUsage(self, stream: Stream[control_pb.DiskUsageRequest, control_pb.DiskUsageResponse]) -> None:
        """The directories of cache mounts."""
        wanted = selected((await _received(stream)).filter)
        records = [_record(record) for record in await self._caches.records() if wanted(record)]
        await stream.send_message(control_pb.DiskUsageResponse(record=records))

    async def Prune(self, stream: Stream[control_pb.PruneRequest, control_pb.UsageRecord]) -> None:
        """Remove those that nobody uses."""
        request = await _received(stream)
        since = clock.now_ns() - request.keepDuration if request.keepDuration else None
        removed = await self._caches.prune(
            keep_bytes=request.reservedSpace, unused_since_ns=since, wanted=selected(request.filter)
        )
        for record in removed:
            await stream.send_message(_record(record))

    async def ListenBuildHistory(
        self, stream: Stream[control_pb.BuildHistoryRequest, control_pb.BuildHistoryEvent]
    ) -> None:
        """No record is kept of builds."""
        raise NotImplementedHere("a history of builds is not kept")

    async def UpdateBuildHistory(
        self, stream: Stream[control_pb.UpdateBuildHistoryRequest, control_pb.UpdateBuildHistoryResponse]
    ) -> None:
        """See ListenBuildHistory."""
        raise NotImplementedHere("a history of builds is not kept")


class Gateway(LLBBridgeBase):
    """What a client's gateway asks for while its Control.Solve waits."""

    def __init__(self, builds: Builds, solver: Solver, gateway_ip: Callable[[], Awaitable[str]]) -> None:
        self._builds = builds
        self._solver = solver
        self._gateway_ip = gateway_ip

    async def _build(self, stream: Stream[Any, Any]) -> Build:
        metadata = stream.metadata
        return await self._builds.find(str(metadata[_BUILD_ID]) if metadata and _BUILD_ID in metadata else "")

    async def Ping(self, stream: Stream[gateway_pb.PingRequest, gateway_pb.PongResponse]) -> None:
        """What is offered."""
        await _received(stream)
        await self._build(stream)
        frontend = [gateway_pb.APICap(ID=name, Enabled=True) for name in (*_GATEWAY, *_MORE_GATEWAY)]
        graph = [gateway_pb.APICap(ID=name, Enabled=True) for name in _GRAPH]
        await stream.send_message(
            gateway_pb.PongResponse(FrontendAPICaps=frontend, LLBCaps=graph, Workers=[worker(await self._gateway_ip())])
        )

    async def Solve(self, stream: Stream[gateway_pb.SolveRequest, gateway_pb.SolveResponse]) -> None:
        """Runs a frontend."""
        request = await _received(stream)
        build = await self._build(stream)
        if request.Definition:
            raise NotImplementedHere(NOT_OFFERED)
        if not request.Frontend:
            raise InvalidArgument("there is nothing to solve")
        with _plainly():
            inputs = {name: image_of(graph) for name, graph in request.FrontendInputs.items()}
            id = await self._solver.solve(build, request.Frontend, request.FrontendOpt, inputs=inputs)
        reference = secrets.token_hex(12)
        build.images[reference] = id
        result = gateway_pb.Result(refDeprecated=reference)
        if request.allowResultArrayRef:
            ref = gateway_pb.Ref(id=reference)
            getattr(ref, "def").CopyFrom(of_image(id))
            result = gateway_pb.Result(ref=ref)
        await stream.send_message(gateway_pb.SolveResponse(ref=reference, result=result))

    async def Evaluate(self, stream: Stream[gateway_pb.EvaluateRequest, gateway_pb.EvaluateResponse]) -> None:
        """Solve has done it."""
        request = await _received(stream)
        if request.Ref not in (await self._build(stream)).images:
            raise NotFound(f"no such ref: {request.Ref}")
        await stream.send_message(gateway_pb.EvaluateResponse())

    async def Return(self, stream: Stream[gateway_pb.ReturnRequest, gateway_pb.ReturnResponse]) -> None:
        """What the waiting Solve exports, or fails with."""
        request = await _received(stream)
        build = await self._build(stream)
        if not build.returned.done():
            if request.HasField("error"):
                build.returned.set_exception(codes.error_of(request.error.code, request.error.message))
            else:
                build.returned.set_result(self._image(build, request.result))
        await stream.send_message(gateway_pb.ReturnResponse())

    @staticmethod
    def _image(build: Build, result: gateway_pb.Result) -> str:
        """Its ID; "" for a result without files."""
        references = [result.ref.id, result.refDeprecated, *(ref.id for ref in result.refs.refs.values())]
        given = [*references, *result.refsDeprecated.refs.values()]
        return next((build.images[one] for one in given if one in build.images), "")


@contextmanager
def _plainly() -> Iterator[None]:
    """A build's failure without a code, as BuildKit tells it: clients print the codes that they know."""
    try:
        yield
    except (Error, OSError) as e:
        raise GRPCError(Status.UNKNOWN, str(e)) from e


def services(
    builds: Builds, solver: Solver, exporter: Exporter, caches: Caches, gateway_ip: Callable[[], Awaitable[str]]
) -> LeanServer:
    """Both, as a server for connections that were upgraded."""
    control = Control(builds, solver, exporter, caches, gateway_ip)
    return LeanServer([Guarded(control), Guarded(Gateway(builds, solver, gateway_ip))])


def worker(gateway_ip: str) -> control_pb.WorkerRecord:
    """The engine as a worker. It stores images itself: without containerd's snapshotters, in BuildKit's words."""
    host = platforms.host()
    return control_pb.WorkerRecord(
        ID="rorqual",
        Labels={_HOST_GATEWAY: gateway_ip, "org.mobyproject.buildkit.worker.executor": "rorqual"},
        platforms=[control_pb.Platform(Architecture=host.architecture, OS=host.os, Variant=host.variant)],
        BuildkitVersion=_VERSION,
    )


def _record(record: BuildCache) -> control_pb.UsageRecord:
    out = control_pb.UsageRecord(
        ID=record.id,
        Mutable=True,
        InUse=record.in_use,
        Size=record.size,
        UsageCount=record.usage_count,
        Description=record.description,
        RecordType=record.type,
    )
    out.CreatedAt.FromJsonString(record.created_at)
    out.LastUsedAt.FromJsonString(record.last_used_at)
    return out


async def _received(stream: Stream[Any, Any]) -> Any:
    request = await stream.recv_message()
    if request is None:
        raise InvalidArgument("a call without a request")
    return request

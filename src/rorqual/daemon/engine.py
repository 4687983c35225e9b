"""The inventory: what rorquald is made of, and in which order it starts and stops."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import uuid
from functools import partial
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Network, ip_network

from rorqual.daemon import listen, web
from rorqual.daemon.api import build as build_api
from rorqual.daemon.api import buildkit as buildkit_api
from rorqual.daemon.api import containers as container_api
from rorqual.daemon.api import diskusage as disk_api
from rorqual.daemon.api import execs as exec_api
from rorqual.daemon.api import files as file_api
from rorqual.daemon.api import images as image_api
from rorqual.daemon.api import networks as network_api
from rorqual.daemon.api import swarm as swarm_api
from rorqual.daemon.api import system as system_api
from rorqual.daemon.api.http import Front
from rorqual.daemon.api.kept import Kept
from rorqual.daemon.background import Background
from rorqual.daemon.config import DaemonConfig
from rorqual.daemon.remote import Remote
from rorqual.daemon.services.build import runmounts
from rorqual.daemon.services.build.builder import Builder
from rorqual.daemon.services.build.caches import Caches
from rorqual.daemon.services.build.context import sweep
from rorqual.daemon.services.build.fetching import Fetcher
from rorqual.daemon.services.build.running import Runner
from rorqual.daemon.services.build.session import Parts
from rorqual.daemon.services.buildkit.builds import Builds
from rorqual.daemon.services.buildkit.control import services
from rorqual.daemon.services.buildkit.direct import Direct
from rorqual.daemon.services.buildkit.exporting import Exporter
from rorqual.daemon.services.buildkit.sessions import Sessions
from rorqual.daemon.services.buildkit.solving import Solver
from rorqual.daemon.services.containers import views
from rorqual.daemon.services.containers.archive import Archives
from rorqual.daemon.services.containers.attach import Streams
from rorqual.daemon.services.containers.changes import ContainerChanges
from rorqual.daemon.services.containers.create import Creator
from rorqual.daemon.services.containers.execs import Execs
from rorqual.daemon.services.containers.exits import Exits
from rorqual.daemon.services.containers.lifecycle import Lifecycle
from rorqual.daemon.services.containers.networking import Networking
from rorqual.daemon.services.containers.populate import Populator
from rorqual.daemon.services.containers.registry import Registry
from rorqual.daemon.services.containers.remove import Remover
from rorqual.daemon.services.containers.sizes import ContainerSizes
from rorqual.daemon.services.containers.start import Starter
from rorqual.daemon.services.containers.stats import StatsReader
from rorqual.daemon.services.containers.usage import Usages
from rorqual.daemon.services.diskusage import DiskUsages
from rorqual.daemon.services.events import Events
from rorqual.daemon.services.healthwatch import HealthWatch
from rorqual.daemon.services.images.attestations import Attestations
from rorqual.daemon.services.images.blobfiles import BlobFiles
from rorqual.daemon.services.images.commit import Committer
from rorqual.daemon.services.images.distribution import Distribution
from rorqual.daemon.services.images.holds import Holds
from rorqual.daemon.services.images.importer import Importer
from rorqual.daemon.services.images.library import Library
from rorqual.daemon.services.images.load import Loader
from rorqual.daemon.services.images.login import Login
from rorqual.daemon.services.images.making import Maker
from rorqual.daemon.services.images.manifests import ManifestViews
from rorqual.daemon.services.images.save import Saver
from rorqual.daemon.services.images.search import Search
from rorqual.daemon.services.images.service import Images
from rorqual.daemon.services.images.sizes import Sizes
from rorqual.daemon.services.images.stores import Documents, Layers, Lease, Names
from rorqual.daemon.services.images.transfers import Transfers
from rorqual.daemon.services.images.views import Views as ImageViews
from rorqual.daemon.services.networks import Networks
from rorqual.daemon.services.swarm.networks import SwarmNetworks
from rorqual.daemon.services.swarm.service import Swarm
from rorqual.daemon.services.system import System
from rorqual.daemon.services.volumemounts import VolumeMounts
from rorqual.daemon.services.volumeplugins import VolumePlugins
from rorqual.daemon.services.volumes import Volumes
from rorqual.daemon.store.daemondb import DaemonDB
from rorqual.daemon.store.journal import Journal
from rorqual.daemon.supervisor import Supervisor
from rorqual.distribution.endpoints import RegistryOptions
from rorqual.distribution.pull import Puller
from rorqual.distribution.push import Pusher
from rorqual.distribution.retry import RetryPolicy
from rorqual.distribution.signatures import policy
from rorqual.distribution.signatures.check import SignatureCheck
from rorqual.distribution.transport import Transport
from rorqual.libnetwork.controller import Controller
from rorqual.libnetwork.model import DEFAULT_POOLS, AddressPool, ControllerOptions, SandboxID

log = logging.getLogger("rorqual.daemon")

_LAST_ANSWERS_S = 1.0


class Engine:
    """Every part, connected. start(), then run_api() until told to stop, then stop()."""

    def __init__(self, config: DaemonConfig) -> None:
        self.config = config
        root, ingest = config.data_root, config.containerd_address.with_name("ingest.sock")
        self.background = Background()
        self.database = DaemonDB(root / "daemon.db")
        self.journal = Journal(root / "events")
        self.events = Events(self.journal)
        self.supervisor = Supervisor(
            address=config.containerd_address,
            root=root,
            state=config.state_dir,
            log_level=_containerd_level(config.log_level),
            adopt_only=bool(config.containerd),
            storage=_storage_arguments(config),
            release=lambda: self.remote.release.version(),
        )
        self.remote = Remote(str(config.containerd_address), config.containerd_namespace, config.snapshotter)
        self.controller = Controller(root / "network.db", config.exec_root, _network_options(config))
        self.registry = Registry(self.database)
        usages = Usages(self.registry)
        self.volumes = Volumes(self.database, root / "volumes", usages, self.events, VolumePlugins())
        self.volume_mounts = VolumeMounts(
            self.volumes, usages, self.remote.snapshots, config.data_root, config.exec_root, self.events
        )

        self.library = Library(self.remote.images, self.remote.content)
        self.lease = Lease(self.remote)
        options = RegistryOptions(
            insecure=config.insecure_registries,
            mirrors=config.registry_mirrors,
            proxies=config.proxies,
        )
        self.transport = Transport(options)
        self._login = Login(self.transport, options)
        blobs = BlobFiles(self.remote.content, None if config.containerd else root / "content")
        retries = RetryPolicy(attempts=config.max_download_attempts)
        puller = Puller(
            self.transport,
            options,
            content=Documents(self.remote, self.lease),
            layers=Layers(self.remote, ingest, self.lease),
            images=Names(self.library),
            snapshotter=config.snapshotter,
            max_downloads=config.max_concurrent_downloads,
            policy=retries,
            origins=blobs,
            signatures=_signatures(config),
        )
        pusher = Pusher(self.transport, options, blobs=blobs, max_uploads=config.max_concurrent_uploads, policy=retries)
        sizes = Sizes(self.remote.snapshots)
        holds = Holds()
        images = Images(self.library, self.remote.content, sizes, usages, holds, self.lease, self.events)
        manifests = ManifestViews(self.remote.content, blobs, sizes, usages)
        image_views = ImageViews(self.library, sizes, usages, manifests, config.storage_driver)
        maker = Maker(self.remote, self.lease, ingest)
        transfers = Transfers(self.library, self.remote.content, maker, blobs, puller, pusher, self.lease, self.events)
        importer = Importer(self.library, maker, self.lease, self.events, self.transport)
        loader = Loader(self.library, maker, self.lease, self.events)
        saver = Saver(self.library, self.remote, blobs, self.lease, self.events)

        self.swarm = Swarm(config, self.events, self._own_bridges)
        swarm_networks = SwarmNetworks(self.swarm, self.controller, config.bridge)
        self.networking = Networking(self.controller, swarm_networks, self.registry, config, self.events)
        streams = Streams(config.state_dir, config.containerd_namespace, self.events)
        self.remover = Remover(
            self.registry,
            self.networking,
            self.remote.snapshots,
            self.volumes,
            self.database,
            self.events,
            self.background,
        )
        starter = Starter(
            self.registry,
            self.remote.containers,
            self.remote.tasks,
            self.remote.snapshots,
            self.networking,
            streams,
            self.remover,
            self.volume_mounts,
            self.events,
            config,
        )
        creator = Creator(
            self.registry,
            self.library,
            self.remote.snapshots,
            self.volumes,
            self.volume_mounts,
            Populator(),
            self.events,
            config,
        )
        lifecycle = Lifecycle(self.registry, self.remote.tasks, starter, self.remover, self.events)
        committer = Committer(self.library, maker, self.remote.snapshots, self.lease, lifecycle, self.events)
        fetcher = Fetcher(self.transport, str(root / "tmp"))
        self.runner = Runner(self.registry, creator, starter, lifecycle, streams)
        self._caches = Caches(root / "build-cache")
        parts = Parts(
            self.library,
            transfers,
            maker,
            committer,
            self.remote.snapshots,
            self.runner,
            self.lease,
            holds,
            fetcher,
            self._caches,
            str(root / "tmp"),
            config.exec_root / "build",
        )
        builder = Builder(parts, self.events)
        sessions = Sessions()
        builds = Builds()
        solver = Solver(builder, sessions, fetcher, self._caches, parts.scratch)
        exporter = Exporter(builder, parts, sessions)
        direct = Direct(builds, solver, exporter)
        self._buildkit = services(builds, solver, exporter, self._caches, self.controller.host_gateway)
        execs = Execs(self.registry, self.remote.tasks, streams, self.events, self.background, config)
        bundles = config.state_dir / "tasks" / config.containerd_namespace
        health = HealthWatch(
            self.registry, bundles, self.events, self.background, lambda c: lifecycle.restart(c, "", None)
        )
        self.exits = Exits(
            self.registry,
            self.remote,
            self.supervisor,
            starter,
            execs,
            self.remover,
            self.networking,
            self.events,
            self.background,
            health,
            self.volume_mounts,
        )
        networks = Networks(self.controller, swarm_networks, self.networking, self.registry, self.events)
        self._routes = [
            *container_api.ContainerRoutes(
                self.registry,
                creator,
                starter,
                lifecycle,
                streams,
                self.networking,
                ContainerSizes(self.remote.snapshots, self.library, sizes),
                views.Listing(self.registry, self.library),
                self.background,
                health,
                Kept(),
            ).routes(),
            *file_api.FileRoutes(
                self.registry,
                Archives(self.remote.snapshots, self.volume_mounts, self.networking, self.events, str(root / "tmp")),
                StatsReader(self.remote.tasks, self.registry),
                ContainerChanges(self.remote.snapshots, self.lease),
                self.background,
            ).routes(),
            *exec_api.ExecRoutes(self.registry, execs, self.background).routes(),
            *image_api.ImageRoutes(
                images,
                image_views,
                transfers,
                Search(self.transport, options),
                importer,
                committer,
                loader,
                saver,
                Attestations(self.library, self.remote.content),
                self.registry,
                self.background,
                Kept(),
            ).routes(),
            *disk_api.DiskUsageRoutes(
                DiskUsages(
                    self.library,
                    image_views,
                    sizes,
                    self.registry,
                    self.remote.snapshots,
                    self.volumes,
                    usages,
                    self._caches,
                ),
                Distribution(puller),
            ).routes(),
            *network_api.NetworkRoutes(networks, self.background).routes(),
            *network_api.VolumeRoutes(self.volumes, self.background).routes(),
            *build_api.BuildRoutes(builder, fetcher, direct, self._caches, parts.scratch).routes(),
            *buildkit_api.BuildKitRoutes(sessions, self._buildkit).routes(),
            *swarm_api.SwarmRoutes(self.swarm, swarm_networks, self.background).routes(),
        ]
        self._follower: asyncio.Task[None] | None = None
        self._server: web.Server | None = None

    async def start(self) -> None:
        """Bring everything up; running containers are found again before the API answers."""
        config = self.config
        for path, mode in ((config.data_root, 0o700), (config.exec_root, 0o700), (config.data_root / "tmp", 0o700)):
            os.makedirs(path, mode, exist_ok=True)
        await asyncio.to_thread(sweep, str(config.data_root / "tmp"))
        await asyncio.to_thread(runmounts.sweep, config.exec_root / "build")
        await asyncio.to_thread(self._caches.sweep)
        await self.supervisor.ensure()
        await self.lease.sweep()
        await self.remote.snapshots.active()  # a storage driver that cannot be had says so now
        self.database.open()
        self.journal.open()
        self.events.start()
        self.registry.load()
        self.volumes.load()
        self.volume_mounts.clear()
        live = {SandboxID(c.id) for c in self.registry if c.state.running}
        # A start that was cut short may have come as far as a process: `exits` takes it over, with its network.
        live |= {SandboxID(task.container_id) for task in await self.remote.tasks.states() if task.alive}
        await asyncio.gather(self.controller.start(live), self.library.load(), self.swarm.start())
        ready = asyncio.Event()
        self._follower = asyncio.create_task(self.exits.run(ready), name="containerd events")
        await ready.wait()
        self.background.spawn(self.runner.sweep(), "containers of builds that were cut short")
        leftovers = self.database.load_leftovers()
        if leftovers:
            self.background.spawn(self.remover.clean(leftovers), "removals of the last run")

    async def serve(self) -> None:
        """Open the API's sockets."""
        engine_id = self.database.fact("engine-id", str(uuid.uuid4()))
        status = partial(self.remote.plugins.snapshotter_status, self.config.snapshotter)
        system = System(
            self.config,
            engine_id,
            self.registry,
            self.library,
            self.events,
            self._login.check,
            status,
            self.remote.release.version,
            self.swarm.info,
        )
        routes = [*self._routes, *system_api.SystemRoutes(system, self.events, self.remote.checks).routes()]
        self._server = web.Server(Front(routes).handle, listen.BACKLOG)
        context = listen.tls_context(self.config)
        for name, sock in listen.sockets(self.config):
            await self._server.listen(sock, None if sock.family == socket.AF_UNIX else context)
            log.info("API listen on %s", name)

    async def _own_bridges(self) -> set[str]:
        networks = await self.controller.networks()
        return {network.interface for network in networks if network.driver in ("bridge", "overlay")}

    async def stop(self) -> None:
        """Stop the API and let go of everything; containers go on."""
        if self._server is not None:
            self._server.stop_listening()
        self.exits.stop_retrying()
        await self.background.drain(self.config.shutdown_timeout)
        await self.events.stop()
        await self._buildkit.end()
        if self._server is not None:
            await self._server.close(_LAST_ANSWERS_S)
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)
        await self.controller.stop()
        await self.swarm.stop()
        await self.transport.close()
        self.remote.close()
        self.journal.close()
        self.database.close()


def _signatures(config: DaemonConfig) -> SignatureCheck | None:
    """The check of pulls that the configuration demands; reads the keys. Raises: InvalidArgument."""
    if not config.image_signatures:
        return None
    return SignatureCheck(policy.parse(config.image_signatures))


def _containerd_level(level: str) -> str:
    return {"warn": "warning", "fatal": "critical", "panic": "critical"}.get(level, level)


def _storage_arguments(config: DaemonConfig) -> list[str]:
    """None for a driver that containerd has in any case."""
    chosen = ["--storage-driver", config.snapshotter] if config.snapshotter == "devmapper" else []
    return chosen + [word for option in config.storage_opts if chosen for word in ("--storage-opt", option)]


def _network_options(config: DaemonConfig) -> ControllerOptions:
    pools = tuple(AddressPool(ip_network(p["base"]), p["size"]) for p in config.default_address_pools)
    bridge = config.bridge != "none"
    # Without one, the table's name is made of what else is an engine's own.
    table = "" if bridge else f"rorqual_{sha256(os.fsencode(config.exec_root)).hexdigest()[:8]}"
    return ControllerOptions(
        bridge_name=config.bridge,
        table_name=table or None,
        default_network=bridge,
        userland_proxy=config.userland_proxy,
        input_policy="obey" if config.input_policy == "obey" else "bypass",
        bip=IPv4Interface(config.bip) if config.bip else None,
        fixed_cidr=IPv4Network(config.fixed_cidr) if config.fixed_cidr else None,
        fixed_cidr6=IPv6Network(config.fixed_cidr_v6) if config.fixed_cidr_v6 else None,
        ipv6=config.ipv6,
        ip_forward=config.ip_forward,
        host_gateway_ip=config.host_gateway_ip or None,
        address_pools=pools or DEFAULT_POOLS,
        mtu=config.mtu,
        icc=config.icc,
        ip_masq=config.ip_masq,
        default_bind_address=IPv4Address(config.ip),
    )

"""The inventory of rorqual-containerd: the one place that builds and connects its parts, and ends them."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import logging
import os
import signal
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

from rorqual import errdefs
from rorqual.containerd.check import Checker
from rorqual.containerd.content.blobs import Blobs
from rorqual.containerd.content.store import ContentStore
from rorqual.containerd.events import Exchange
from rorqual.containerd.gc import Collector
from rorqual.containerd.ingest import IngestServer
from rorqual.containerd.metadata.containers import Containers
from rorqual.containerd.metadata.content import ContentTable
from rorqual.containerd.metadata.database import Database
from rorqual.containerd.metadata.images import Images
from rorqual.containerd.metadata.leases import Leases
from rorqual.containerd.metadata.namespaces import Namespaces
from rorqual.containerd.metadata.snapshots import SnapshotTable
from rorqual.containerd.runtime.manager import TaskManager
from rorqual.containerd.runtime.spawner import Spawner
from rorqual.containerd.services.check import CheckService
from rorqual.containerd.services.containers import ContainersService
from rorqual.containerd.services.content import ContentService
from rorqual.containerd.services.diff import DiffService
from rorqual.containerd.services.events import TTRPC_FORWARD, EventsService, forward_from_shim
from rorqual.containerd.services.images import ImagesService
from rorqual.containerd.services.introspection import IntrospectionService, VersionService
from rorqual.containerd.services.leases import LeasesService
from rorqual.containerd.services.namespaces import NamespacesService
from rorqual.containerd.services.snapshots import SnapshotsService
from rorqual.containerd.services.tasks import TasksService
from rorqual.containerd.snapshotters.available import available
from rorqual.containerd.snapshotters.contract import Driver
from rorqual.containerd.snapshotters.stable import StableStorage, boot_id
from rorqual.containerd.snapshotters.tree import TreeSnapshotter, first_ids
from rorqual.containerd.workers import WorkerPool
from rorqual.linux import malloc
from rorqual.rpc import stacks, ttrpcserver, unixsock
from rorqual.rpc.grpcserver import LeanServer
from rorqual.rpc.status import Guarded

log = logging.getLogger("rorqual.containerd")

_WORKERS_MIN = 4  # more than Docker's three downloads at a time
_THREADS = 6


async def run(root: Path, state: str, address: str, storage_driver: str, storage_options: Sequence[str]) -> None:
    """Serve `address` until SIGTERM or SIGINT. Raises: Unavailable when another process uses `root`."""
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(_THREADS, thread_name_prefix="disk"))
    root.mkdir(mode=0o711, parents=True, exist_ok=True)
    os.makedirs(state, mode=0o700, exist_ok=True)
    lock = _lock(root)
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    stacks.dump_on_signal()

    # metadata
    db = Database(root / "meta.db")
    namespaces = Namespaces(db)
    images = Images(db, namespaces)
    containers = Containers(db, namespaces)
    leases = Leases(db, namespaces)
    # bytes
    content = ContentStore(db, ContentTable(db, namespaces), Blobs(root / "content"))
    boot = boot_id()
    drivers, refused = available(f"{root}/snapshots", storage_driver, storage_options)
    snapshotters = _snapshotters(drivers, db, namespaces, boot)
    stable = StableStorage(db, {name: s.driver.root for name, s in snapshotters.items()}, boot)
    if torn := stable.forget_torn():
        log.warning("the machine went down: %d layers were not on disk yet and are unpacked again", torn)
    workers = WorkerPool(max(_WORKERS_MIN, os.cpu_count() or 1))
    # what ties them together
    exchange = Exchange()
    collector = Collector(db, content, snapshotters)
    spawner = Spawner(f"{state}/spawner.sock", f"{address}.ttrpc")
    manager = TaskManager(state, spawner, exchange)
    ingest = IngestServer(content, leases, snapshotters, workers)
    # doors
    services = (
        NamespacesService(namespaces, exchange),
        ContentService(content, leases, exchange, collector),
        SnapshotsService(snapshotters, refused, leases, exchange, collector),
        ImagesService(db, images, stable, exchange, collector),
        DiffService(content, leases, workers, exchange),
        ContainersService(containers, exchange, collector),
        TasksService(manager, containers, snapshotters),
        EventsService(exchange),
        LeasesService(db, leases, collector),
        IntrospectionService(_uuid(root), drivers, refused),
        CheckService(Checker(db, content, snapshotters, workers)),
        VersionService(),
    )
    grpc = LeanServer([Guarded(service) for service in services])
    ttrpc = ttrpcserver.Server({TTRPC_FORWARD: partial(forward_from_shim, exchange)})

    await ttrpc.start(unixsock.listen(f"{address}.ttrpc"))
    await content.reconcile()  # before anybody writes
    await manager.recover()
    background = [
        asyncio.create_task(work)
        for work in (
            spawner.serve(),
            collector.serve(),
            ingest.serve(unixsock.listen(f"{os.path.dirname(address)}/ingest.sock")),
            _clean_up(snapshotters),
        )
    ]
    await grpc.start(sock=unixsock.listen(address))
    gc.collect()
    malloc.trim()
    gc.freeze()
    log.info("pid %d serving on %s", os.getpid(), address)
    await stop.wait()

    log.info("stopping; containers go on")
    grpc.close()
    ttrpc.close()
    for path in (address, f"{address}.ttrpc", f"{os.path.dirname(address)}/ingest.sock"):
        with suppress(FileNotFoundError):
            os.unlink(path)
    for task in background:
        task.cancel()
    await asyncio.gather(*background, return_exceptions=True)
    await manager.close()
    await grpc.wait_closed()
    workers.close()
    for snapshotter in snapshotters.values():
        snapshotter.close()
    db.close()
    os.close(lock)


def _snapshotters(
    drivers: Sequence[Driver], db: Database, namespaces: Namespaces, boot: str
) -> dict[str, TreeSnapshotter]:
    tables = {driver.name: SnapshotTable(db, namespaces, driver.name, boot) for driver in drivers}
    for name, table in tables.items():
        if dropped := table.drop_transient():
            log.info("%d unfinished layers of %s dropped", dropped, name)
    ids = first_ids(tables["native"].last_id(), [driver.root for driver in drivers])
    return {driver.name: TreeSnapshotter(driver, tables[driver.name], ids) for driver in drivers}


async def _clean_up(snapshotters: dict[str, TreeSnapshotter]) -> None:
    """Finish the removals that the last containerd had begun."""
    for snapshotter in snapshotters.values():
        await snapshotter.cleanup()


def _lock(root: Path) -> int:
    """One containerd a root. Raises Unavailable when another has it."""
    fd = os.open(root / "containerd.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise errdefs.Unavailable(f"another rorqual-containerd uses {root}") from None
    return fd


def _uuid(root: Path) -> str:
    """This root's identity, made at its first start."""
    path = root / "containerd.uuid"
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        path.write_text(f"{uuid.uuid4()}\n")
        return path.read_text().strip()

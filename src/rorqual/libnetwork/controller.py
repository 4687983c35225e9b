"""The controller: libnetwork as the daemon sees it.

All work happens in `engine.Engine`, in one worker thread of this controller: a sandbox with its endpoint takes about a
millisecond there, so one thread serves a thousand starts a second, needs no locks, and may enter namespaces. The
controller acts on the network namespace this process was in when `start` ran.

What may have to wait for a plugin is done in other threads, one change at a time for each plugin and each sandbox: its
lanes. They use the engine in turn with the first, never while a plugin is asked.

A cancelled call runs to its end in the thread: it is done wholly or not at all, and the caller who gave up cleans up
with `delete_sandbox`, which is idempotent.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

from rorqual import errdefs, ownthread
from rorqual.libnetwork import files
from rorqual.libnetwork.engine import Engine
from rorqual.libnetwork.lanes import Lanes
from rorqual.libnetwork.model import (
    ControllerOptions,
    Endpoint,
    EndpointConfig,
    Network,
    NetworkConfig,
    NetworkID,
    PortBinding,
    Sandbox,
    SandboxConfig,
    SandboxID,
)
from rorqual.linux.nftables import Generation, Monitor

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_SWEEP_AFTER_S = 3.0
_PLUGINS_S = 2.0  # what may still wait for a plugin is left, at the end, as a kill would leave it
_LOOP_S = 5.0  # the event loop's turn comes well within that, or it is stopping
_SETTLE_S = 0.1  # notifications of one reload come in a burst; it is answered once


class Controller:
    """One engine's networks. Every coroutine may be called concurrently with every other, between start and stop."""

    def __init__(
        self, store_path: str | os.PathLike[str], exec_root: str | os.PathLike[str], options: ControllerOptions
    ):
        self.options = options
        self._store_path, self._exec_root = os.fspath(store_path), os.fspath(exec_root)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="libnetwork")
        self._lanes = Lanes()
        self._engine: Engine | None = None
        self._monitor: Monitor | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._upkeep: set[asyncio.Future[Any]] = set()
        self._generations: list[Generation] = []
        self._resolver_fd = -1
        self._loop: asyncio.AbstractEventLoop | None = None

    # --- life

    async def start(self, live: Collection[SandboxID] = ()) -> None:
        """Bring up the default network, restore the `live` sandboxes (those that may still have processes), remove
        whatever belongs to others. Raises OSError where the kernel refuses, errdefs.Error."""
        loop = self._loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._open, frozenset(live))
        assert self._monitor is not None
        loop.add_reader(self._monitor.fileno(), self._notified)
        self._later("sweep", _SWEEP_AFTER_S, self._sweep)
        for lane in self._running().unfinished():
            self._kept(self._run_in_lanes({lane}, partial(Engine.end_joining, lane=lane)))

    def _open(self, live: frozenset[SandboxID]) -> None:
        os.makedirs(os.path.dirname(os.path.abspath(self._store_path)), mode=0o711, exist_ok=True)
        monitor = Monitor()  # before the table is written: no change is missed
        try:
            engine = Engine(self._store_path, self._exec_root, self.options, self._resolver_connected)
            try:
                with engine.baton:
                    engine.start(live)
            except BaseException:
                engine.close()
                raise
        except BaseException:
            monitor.close()
            raise
        # Only now: after a failure `stop` finds nothing of ours to end, and the failure is what is reported.
        self._engine, self._monitor = engine, monitor

    async def stop(self, *, purge: bool = False) -> None:
        """End this process's part; everything in the kernel stays and works, unless `purge`: then sandboxes, bridges,
        table and mounts are removed too (for an engine that is not to come back). Again is no error."""
        loop = asyncio.get_running_loop()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        if self._monitor is not None:
            loop.remove_reader(self._monitor.fileno())
            self._monitor.close()
            self._monitor = None
        self._watch_resolver(-1)
        if self._upkeep:
            await asyncio.wait(self._upkeep, timeout=_PLUGINS_S)
        if self._engine is not None:
            engine, self._engine = self._engine, None
            await loop.run_in_executor(self._thread, self._close, engine, purge)
        self._thread.shutdown(wait=False)

    @staticmethod
    def _close(engine: Engine, purge: bool) -> None:
        if purge:
            with engine.baton:
                engine.purge()
        engine.baton.keep()  # a thread that still waits for a plugin finds nothing that is closed
        engine.close()

    async def _run(self, method: Callable[Concatenate[Engine, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a method of the engine that waits for no plugin, in its thread."""
        engine = self._running()

        def work() -> T:
            with engine.baton:
                return method(engine, *args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _running(self) -> Engine:
        if self._engine is None:
            raise errdefs.Unavailable("the network controller is not running")
        return self._engine

    async def _run_in_lanes(self, lanes: Collection[str], method: Callable[[Engine], T]) -> T:
        """Run what may wait for these plugins, after what was there before for each."""
        engine = self._running()

        def work() -> T:
            engine.adopt_thread()
            with engine.baton:
                return method(engine)

        async with self._lanes.taken(f"plugin {lane}" for lane in lanes):
            return await ownthread.run(work, "libnetwork-plugin")

    async def _change(self, sandbox_id: SandboxID, network: str, method: Callable[[Engine], T]) -> T:
        """Run a change of a sandbox, which concerns that network ("" for none in particular)."""
        engine = self._running()
        if not engine.plugged:
            return await self._run(method)

        async def change() -> T:
            async with self._lanes.taken([f"sandbox {sandbox_id}"]):
                lanes = engine.lanes(sandbox_id, network)
                return await (self._run_in_lanes(lanes, method) if lanes else self._run(method))

        return await asyncio.shield(self._kept(change()))

    def _kept(self, change: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A change that goes on to its end though nobody may wait for it any more."""
        task = asyncio.get_running_loop().create_task(change)
        self._upkeep.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Future[Any]) -> None:
        self._upkeep.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.debug("a change of networks failed: %s", task.exception())

    # --- networks

    async def networks(self) -> list[Network]:
        """All of them, oldest first."""
        return await self._run(Engine.networks)

    async def network(self, name_or_id: str) -> Network:
        """By id, name, or start of an id. Raises errdefs.NotFound, InvalidArgument when ambiguous."""
        return await self._run(Engine.network, name_or_id)

    async def endpoints(self, name_or_id: str) -> list[Endpoint]:
        """The endpoints on a network. Raises errdefs.NotFound."""
        return await self._run(lambda engine: engine.endpoints(engine.network(name_or_id).id))

    async def create_network(self, config: NetworkConfig) -> Network:
        """Raises errdefs.Conflict (name), PermissionDenied (overlap), InvalidArgument, NotFound (driver)."""
        lanes = self._running().lane_for(config)
        if not lanes:
            return await self._run(Engine.create_network, config)
        work = partial(Engine.create_network, config=config)
        return await asyncio.shield(self._kept(self._run_in_lanes(lanes, work)))

    async def remove_network(self, name_or_id: str) -> Network:
        """The network that was. Raises errdefs.PermissionDenied while it has endpoints or when predefined, NotFound."""
        lanes = self._running().lanes(None, name_or_id)
        if not lanes:
            return await self._run(Engine.remove_network, name_or_id)
        work = partial(Engine.remove_network, name_or_id=name_or_id)
        return await asyncio.shield(self._kept(self._run_in_lanes(lanes, work)))

    # --- sandboxes

    async def create_sandbox(self, sandbox_id: SandboxID, config: SandboxConfig | None = None) -> Sandbox:
        """A bind-mounted network namespace with loopback up. Raises errdefs.AlreadyExists."""
        work = partial(Engine.create_sandbox, sandbox_id=sandbox_id, config=config or SandboxConfig())
        return await self._change(sandbox_id, "", work)

    async def sandbox(self, sandbox_id: SandboxID) -> Sandbox:
        """Raises errdefs.NotFound."""
        return await self._run(Engine.sandbox, sandbox_id)

    async def sandboxes(self) -> list[Sandbox]:
        return await self._run(Engine.sandboxes)

    async def delete_sandbox(self, sandbox_id: SandboxID) -> Sandbox | None:
        """Release its addresses, ports, links and namespace: the sandbox that was, None where there was none."""
        sandbox = await self._change(sandbox_id, "", partial(Engine.delete_sandbox, sandbox_id=sandbox_id))
        self._later("sweep", _SWEEP_AFTER_S, self._sweep)
        return sandbox

    async def connect(self, sandbox_id: SandboxID, network: str, config: EndpointConfig | None = None) -> Endpoint:
        """Join the sandbox to a network; its processes may be running. Raises errdefs.NotFound, PermissionDenied,
        ResourceExhausted (addresses), ports.PortUnavailable (an errdefs.Internal, with Docker's text)."""
        wanted = config or EndpointConfig()
        work = partial(Engine.connect, sandbox_id=sandbox_id, network=network, config=wanted)
        return await self._change(sandbox_id, network, work)

    async def disconnect(self, sandbox_id: SandboxID, network: str, force: bool = False) -> None:
        """Take the sandbox off a network. Raises errdefs.NotFound, PermissionDenied when it is not on it."""
        work = partial(Engine.disconnect, sandbox_id=sandbox_id, network=network, force=force)
        await self._change(sandbox_id, network, work)

    async def change_ports(
        self, sandbox_id: SandboxID, add: Sequence[PortBinding], remove: Sequence[PortBinding]
    ) -> Sandbox:
        """Publish and close ports while it runs, all or nothing; the sandbox as it is then. Raises errdefs.NotFound,
        InvalidArgument, ports.PortUnavailable."""
        work = partial(Engine.change_ports, sandbox_id=sandbox_id, add=add, remove=remove)
        return await self._change(sandbox_id, "", work)

    async def rename(self, sandbox_id: SandboxID, name: str, dns_names: Mapping[NetworkID, tuple[str, ...]]) -> Sandbox:
        """Call it otherwise, for others and in messages. Raises errdefs.NotFound."""
        work = partial(Engine.rename, sandbox_id=sandbox_id, name=name, dns_names=dns_names)
        return await self._change(sandbox_id, "", work)

    async def hosts(self, sandbox: Sandbox) -> str:
        """The text of its /etc/hosts, as of this `Sandbox` value (ask `sandbox` again after a connect)."""
        return files.hosts_text(sandbox, await self.host_gateway())

    async def host_gateway(self) -> str:
        """The address that is the host to containers; "" without any."""
        return await self._run(Engine.host_gateway)

    async def resolv_conf(self, sandbox: Sandbox) -> str:
        """The text of its /etc/resolv.conf."""
        path = sandbox.config.origin_resolv_conf_path
        host = await self._run(lambda _engine: files.host_resolv_conf(path))
        if sandbox.asks_resolver:
            return files.embedded_resolv_conf_text(sandbox.config, host)
        return files.resolv_conf_text(sandbox.config, host, ipv6=self.options.ipv6)

    # --- upkeep

    def _later(self, name: str, delay_s: float, action: Callable[[], None]) -> None:
        """Run `action` once after the delay, however often that is asked for meanwhile."""
        if name not in self._timers and self._engine is not None:

            def fire() -> None:
                del self._timers[name]
                action()

            self._timers[name] = asyncio.get_running_loop().call_later(delay_s, fire)

    def _in_thread(self, work: Callable[[Engine], None]) -> None:
        """Start upkeep in the engine's thread; its failure is logged, `stop` waits for it."""
        engine = self._engine
        if engine is None:
            return

        def run() -> None:
            try:
                with engine.baton:
                    work(engine)
            except (OSError, errdefs.Error):
                log.exception("network upkeep failed")

        future = asyncio.get_running_loop().run_in_executor(self._thread, run)
        self._upkeep.add(future)
        future.add_done_callback(self._upkeep.discard)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()

        def work(engine: Engine) -> None:
            if engine.sweep():
                loop.call_soon_threadsafe(self._later, "sweep", _SWEEP_AFTER_S, self._sweep)

        self._in_thread(work)

    def _notified(self) -> None:
        """Some program committed an nftables transaction."""
        if self._monitor is not None:
            self._generations += self._monitor.read()
            if self._generations:
                self._later("heed", _SETTLE_S, self._heed)

    def _resolver_connected(self, fd: int) -> None:
        """In the engine's thread: there is a new connection to the resolver process, or (-1) none from now on. The
        thread waits, because a closed fd's number may be anything's a moment later."""
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        done = threading.Event()

        def watch() -> None:
            self._watch_resolver(fd)
            done.set()

        loop.call_soon_threadsafe(watch)
        done.wait(_LOOP_S)

    def _watch_resolver(self, fd: int) -> None:
        """The process says nothing unasked: that its connection becomes readable is its end."""
        loop = asyncio.get_running_loop()
        if self._resolver_fd >= 0:
            loop.remove_reader(self._resolver_fd)
        self._resolver_fd = fd
        if fd >= 0:
            loop.add_reader(fd, self._resolver_ended)

    def _resolver_ended(self) -> None:
        self._watch_resolver(-1)
        self._in_thread(Engine.resolver_lost)

    def _heed(self) -> None:
        generations, self._generations = self._generations, []
        self._in_thread(lambda engine: engine.heed(generations))

"""Ends of processes: from containerd's events, and by looking when events may have been missed.

One code path records an end, whether it is heard of at once, after a reconnect, or at the daemon's start.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Coroutine
from typing import Any

from rorqual.daemon.background import Background
from rorqual.daemon.remote import Exit, Remote, TaskEvent, TaskState
from rorqual.daemon.services import clock
from rorqual.daemon.services.containers import state as states
from rorqual.daemon.services.containers.execs import KILLED, Execs
from rorqual.daemon.services.containers.networking import Networking
from rorqual.daemon.services.containers.record import Container
from rorqual.daemon.services.containers.registry import Registry
from rorqual.daemon.services.containers.remove import Remover
from rorqual.daemon.services.containers.start import Starter
from rorqual.daemon.services.events import Events
from rorqual.daemon.services.healthwatch import HealthWatch
from rorqual.daemon.services.volumemounts import VolumeMounts
from rorqual.daemon.supervisor import Supervisor
from rorqual.errdefs import Error, NotFound, Unavailable

log = logging.getLogger(__name__)

_RECONNECT_S = 0.05
_ORPHAN_AGE_S = 1.0
_PEERS_S = 30.0
_CONTAINER_ID = re.compile(r"[0-9a-f]{64}\Z")  # what the daemon names its tasks and snapshots; others' are left alone


class Exits:
    """Follows containerd's events for as long as run() runs."""

    def __init__(
        self,
        registry: Registry,
        remote: Remote,
        supervisor: Supervisor,
        starter: Starter,
        execs: Execs,
        remover: Remover,
        networking: Networking,
        events: Events,
        background: Background,
        health: HealthWatch,
        volume_mounts: VolumeMounts,
    ) -> None:
        self._registry = registry
        self._remote = remote
        self._supervisor = supervisor
        self._starter = starter
        self._execs = execs
        self._remover = remover
        self._networking = networking
        self._events = events
        self._background = background
        self._health = health
        self._volume_mounts = volume_mounts
        self._revived = False

    async def run(self, ready: asyncio.Event) -> None:
        """Follow, forever; `ready` is set once the first look around is done."""
        while True:
            try:
                await self._supervisor.ensure()
                await self._follow(ready)
            except Unavailable as e:
                log.warning("containerd: %s; connecting again", e)
            except Error:
                log.exception("containerd: event stream")
            await asyncio.sleep(_RECONNECT_S)

    async def _follow(self, ready: asyncio.Event) -> None:
        looking: list[asyncio.Task[None]] = []

        def subscribed() -> None:
            looking.append(self._background.spawn(self._look(ready), "look at tasks"))

        try:
            async for event in self._remote.events.subscribe(subscribed):
                self._heard(event)
        finally:
            for task in looking:
                task.cancel()

    def _heard(self, event: TaskEvent) -> None:
        container = self._registry.by_id(event.container_id)
        if container is None:
            return
        if event.topic == "exit" and event.exit is not None:
            if event.exec_id:
                self._execs.ended(container, event.exec_id, event.exit)
            else:
                name = f"exit of {container.short_id}"
                self._background.spawn(self._ended(container, event.pid, event.exit), name)
        elif event.topic == "health":
            self._health.refresh(container)
        elif event.topic == "oom":
            self._background.spawn(self._out_of_memory(container), f"oom of {container.short_id}")

    async def _out_of_memory(self, container: Container) -> None:
        """In its turn: it may come while the start is still under way, and the end comes after it."""
        async with container.lock:
            container.state = container.state.oom()
        self._events.publish("container", "oom", container.id, container.event_attributes())

    # ---- looking ----

    async def _look(self, ready: asyncio.Event) -> None:
        """Compare the records with the tasks there are, and record what was missed."""
        tasks = {t.container_id: t for t in await self._remote.tasks.states()}
        work: list[Coroutine[Any, Any, None]] = []
        for container in self._registry:
            if container.lock.locked():
                name = f"look at {container.short_id}"
                self._background.spawn(self._compare_later(container), name)
            else:
                work.append(self._compare(container, tasks.get(container.id)))
        await asyncio.gather(*work)
        for container in self._registry:
            self._health.refresh(container)
        ready.set()
        for container in self._registry:
            self._revive(container)
        self._revived = True
        await self._sweep()

    async def _sweep(self) -> None:
        """Remove what a create or a start left that was cut short: ours by its name, and unknown twice."""
        found = await self._unknown()
        if not found:
            return
        await asyncio.sleep(_ORPHAN_AGE_S)  # a create under way has its record by then
        for id in found & await self._unknown():
            log.warning("container %s: no record of it: removing its task and files", id[:12])
            try:
                await self._forget(id)
                await self._remote.snapshots.remove(id)
            except Error as e:
                log.warning("container %s: what is left of it could not be removed: %s", id[:12], e)

    async def _unknown(self) -> set[str]:
        tasks = {t.container_id for t in await self._remote.tasks.states()}
        names = tasks | set(await self._remote.snapshots.active())
        return {name for name in names if _CONTAINER_ID.match(name) and self._registry.by_id(name) is None}

    async def _compare_later(self, container: Container) -> None:
        """After the start or the end that is under way: it may not hear of an exit that nobody told."""
        async with container.lock:
            pass
        if self._registry.by_id(container.id) is not container:
            return
        try:
            task: TaskState | None = await self._remote.tasks.get(container.id)
        except NotFound:
            task = None
        await self._compare(container, task)

    async def _compare(self, container: Container, task: TaskState | None) -> None:
        await self._compare_init(container, task)
        await self._execs.compare(container)

    async def _compare_init(self, container: Container, task: TaskState | None) -> None:
        if container.state.running:
            if task is None:
                await self._ended(container, container.state.pid, Exit(KILLED, clock.now_ns()))
            elif task.exit is not None:
                await self._ended(container, container.state.pid, task.exit)
            elif task.status != container.state.status and task.alive:
                await self._frozen_or_thawed(container, task.status)
        elif task is not None:
            await self._adopt(container, task)

    async def _frozen_or_thawed(self, container: Container, status: str) -> None:
        """A pause or an unpause that the daemon's end cut short: nobody was told of it; a commit's must not stay."""
        async with container.lock:
            state = container.state
            if not state.running or state.status == status:
                return
            if status == states.PAUSED:
                await self._remote.tasks.resume(container.id)
                return
            container.state = state.unpause()
            await self._registry.save_state(container)

    async def _adopt(self, container: Container, task: TaskState) -> None:
        """A start that the daemon's end cut short: who runs is kept, who ran has ended, another start is undone."""
        async with container.lock:
            if container.removing or container.state.running:
                return  # somebody else saw to it meanwhile
            if task.alive and await self._networking.taken_over(container):
                if task.status == states.PAUSED:
                    await self._remote.tasks.resume(container.id)
                await self._starter.started(container, task.pid, clock.now_ns())
                return
            if task.exit is not None and task.exit.at_ns > container.state.finished_ns:
                await self._starter.started(container, task.pid, task.exit.at_ns)
                await self._record_end(container, task.exit)
                return
            await self._cleanup(container)
            if container.host.auto_remove:
                await self._remover.remove(container, volumes=True)

    def _revive(self, container: Container) -> None:
        """Start those that waited to be started again; at the daemon's start also those whose policy says so."""
        if container.retry is not None or container.removing:
            return
        status = container.state.status
        policy = container.host.restart_policy.name
        due = status == states.EXITED and states.starts_with_daemon(policy, stopped_by_user=container.stopped_by_user)
        if status == states.RESTARTING or (due and not self._revived):
            container.stopped_by_user = False  # a user's stop does not outlive the daemon under `always`
            self._retry_later(container, 0.0)

    def stop_retrying(self) -> None:
        """At the daemon's end: what waits to be started again does so after its next start."""
        for container in self._registry:
            if container.retry is not None:
                container.retry.cancel()
                container.retry = None

    # ---- ends ----

    async def _ended(self, container: Container, pid: int, end: Exit) -> None:
        async with container.lock:
            current = container.state
            if not current.running or (pid and pid != current.pid):
                return
            await self._record_end(container, end)

    async def _record_end(self, container: Container, end: Exit) -> None:
        ran_ns = max(0, end.at_ns - container.state.started_ns)
        self._execs.container_ended(container, end.at_ns)
        self._health.ended(container)
        policy = container.host.restart_policy
        again = states.should_restart(
            policy.name,
            policy.maximum_retry_count,
            exit_code=end.status,
            restarts=container.restarts,
            stopped_by_user=container.stopped_by_user,
        )
        if again:
            container.state = container.state.retry(end.status, end.at_ns)
        else:
            container.state = container.state.exit(end.status, end.at_ns)
        container.networks, container.ports = {}, {}
        attributes = container.event_attributes()
        attributes |= {"exitCode": str(end.status), "execDuration": str(ran_ns // 10**9)}
        if self._events.told(container.id, "die", container.state.started_ns) is None:
            self._events.publish("container", "die", container.id, attributes)
            self._volume_mounts.ended(container)
        remove = container.host.auto_remove and not again
        steps: list[Coroutine[Any, Any, Any]] = [self._cleanup(container)]
        if not remove:
            container.wake_exit()
            steps.append(self._registry.save_state(container))
        await asyncio.gather(*steps)
        if again:
            container.retry_delay_s = states.next_delay_s(
                container.retry_delay_s, ran_ns / 1e9, *container.restart_delays_s
            )
            self._retry_later(container, container.retry_delay_s)
        elif remove:
            container.wake_exit()
            await self._remover.remove(container, volumes=True)

    async def _cleanup(self, container: Container) -> None:
        """Take the task and the network down; what fails is logged and seen again at the next look."""
        results = await asyncio.gather(
            self._forget(container.id),
            self._networking.release(container),
            self._volume_mounts.detach(container),
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, BaseException):
                log.warning("container %s: clean-up after its end: %s", container.id, result)

    async def _forget(self, id: str) -> None:
        await self._remote.tasks.destroy(id)
        await self._remote.containers.delete(id)

    def _retry_later(self, container: Container, delay_s: float) -> None:
        container.retry = self._background.spawn(self._retry(container, delay_s), f"restart {container.short_id}")

    async def _retry(self, container: Container, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        await self._wait_for_peers(container)
        async with container.lock:
            if container.removing or container.stopped_by_user or container.state.running:
                return
            container.retry = None
            container.restarts += 1
            try:
                await self._starter.run(container)
            except Error as e:
                log.warning("container %s could not be started again: %s", container.id, e)
                if container.state.status == states.RESTARTING:
                    container.state = container.state.exit(container.state.exit_code, clock.now_ns(), str(e))
                    await self._registry.save_state(container)

    async def _wait_for_peers(self, container: Container) -> None:
        """Those whose namespaces it joins are started first, when they too wait to be started."""
        host = container.host
        modes = (host.network_mode, host.ipc_mode, host.pid_mode)
        names = {mode.partition(":")[2] for mode in modes if mode.startswith("container:")}
        for peer in filter(None, map(self._registry.by_id, names)):
            try:
                async with asyncio.timeout(_PEERS_S):
                    if peer.retry is not None:
                        await asyncio.wait([peer.retry])
                    async with peer.lock:
                        continue  # a start of it that was under way has ended
            except TimeoutError:
                log.warning("container %s: starting before %s, which it joins", container.id, peer.id)

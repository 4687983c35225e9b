"""What can be done to a container that exists: stop, kill, restart, pause, wait, rename, update, top, remove."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import replace

from rorqual.api.config import HostConfig
from rorqual.api.container import TopResponse
from rorqual.daemon.remote import Tasks
from rorqual.daemon.services import names, signals
from rorqual.daemon.services.containers import top, update
from rorqual.daemon.services.containers.record import Container, Ended
from rorqual.daemon.services.containers.registry import Registry
from rorqual.daemon.services.containers.remove import Remover
from rorqual.daemon.services.containers.start import Starter
from rorqual.daemon.services.events import Events
from rorqual.daemon.spec import resources
from rorqual.errdefs import Conflict, Error, Internal, InvalidArgument, NotFound, NotModified

_STOP_TIMEOUT_S = 10
_KILL_TIMEOUT_S = 10.0


class Lifecycle:
    """Operations on one container; each takes the record."""

    def __init__(self, registry: Registry, tasks: Tasks, starter: Starter, remover: Remover, events: Events) -> None:
        self._registry = registry
        self._tasks = tasks
        self._starter = starter
        self._remover = remover
        self._events = events

    # ---- ends ----

    async def stop(self, container: Container, signal_name: str = "", timeout_s: int | None = None) -> None:
        """Ask it to end, then kill it. Raises: NotModified when it doesn't run, InvalidArgument."""
        if not await self._stop_retrying(container):
            if not container.state.running:
                raise NotModified(f"container {container.id} is not running")
            await self._stop(container, signal_name, timeout_s)
        self._events.publish("container", "stop", container.id, container.event_attributes())

    async def _stop(self, container: Container, signal_name: str, timeout_s: int | None) -> None:
        number = signals.parse(signal_name or container.config.stop_signal or "SIGTERM")
        if timeout_s is None:
            timeout_s = container.config.stop_timeout if container.config.stop_timeout is not None else _STOP_TIMEOUT_S
        await self._stopped_by_user(container)
        ended = self._ended_future(container)
        await self._signal(container, number)
        try:
            # Docker's rule: a negative timeout waits forever.
            async with asyncio.timeout(None if timeout_s < 0 else timeout_s):
                await ended
        except TimeoutError:
            await self._kill_and_wait(container)

    async def _stop_retrying(self, container: Container) -> bool:
        """A container that waits to be started again is stopped by not starting it; whether it was such a one."""
        async with self._registry.held(container):
            if container.retry is None or container.state.running:
                return False
            container.retry.cancel()
            container.retry = None
            container.stopped_by_user = True
            if container.state.status == "restarting":
                container.state = container.state.exit(container.state.exit_code, container.state.finished_ns)
            await self._registry.save_state(container)
            container.wake_exit()
            return True

    def _ended_future(self, container: Container) -> asyncio.Future[Ended]:
        future: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        if container.state.running:
            _await_in(container.exit_waiters, future)
        else:
            future.set_result(Ended(container.state.exit_code))
        return future

    async def _signal(self, container: Container, number: int) -> None:
        try:
            await self._tasks.kill(container.id, number)
        except NotFound:
            return  # it ended meanwhile
        if container.state.status == "paused" and number == signal.SIGKILL:
            # A frozen process gets no signal until it is thawed.
            try:
                await self._tasks.resume(container.id)
            except Error:
                pass
        self._events.publish("container", "kill", container.id, {**container.event_attributes(), "signal": str(number)})

    async def _stopped_by_user(self, container: Container) -> None:
        """Stored before the signal: a daemon that is killed now must not start it again."""
        container.stopped_by_user = True
        await self._registry.save_state(container)

    async def _kill_and_wait(self, container: Container) -> None:
        await self._stopped_by_user(container)
        ended = self._ended_future(container)
        await self._signal(container, signal.SIGKILL)
        try:
            async with asyncio.timeout(_KILL_TIMEOUT_S):
                await ended
        except TimeoutError:
            raise Internal(
                f"cannot stop container: {container.id}: tried to kill container, but did not receive an exit event"
            ) from None

    async def kill(self, container: Container, signal_name: str) -> None:
        """Send a signal; after SIGKILL, when it has ended. Raises: Conflict, InvalidArgument."""
        number = signals.parse(signal_name or "SIGKILL")
        if not container.state.running:
            raise Conflict(f"container {container.id} is not running")
        if number == signal.SIGKILL:
            await self._kill_and_wait(container)
            return
        stop = signals.parse(container.config.stop_signal or "SIGTERM")
        if number == stop:
            await self._stopped_by_user(container)
        await self._signal(container, number)

    async def restart(self, container: Container, signal_name: str, timeout_s: int | None) -> None:
        """Stop if it runs, then start."""
        if container.state.running:
            auto_remove = container.host.auto_remove
            container.host = replace(container.host, auto_remove=False)  # its end isn't its last one
            try:
                await self._stop(container, signal_name, timeout_s)
            finally:
                container.host = replace(container.host, auto_remove=auto_remove)
        await self._starter.start(container)
        self._events.publish("container", "restart", container.id, container.event_attributes())

    # ---- freeze ----

    async def pause(self, container: Container, *, briefly: bool = False) -> None:
        """`briefly`: not beyond the end of this process. Raises: Conflict."""
        async with self._registry.held(container):
            _need_running(container)
            if container.state.status == "paused":
                raise Conflict(f"container {container.id} is already paused")
            container.paused_briefly = briefly
            await self._tasks.pause(container.id)
            container.state = container.state.pause()
            await self._registry.save_state(container)
        self._events.publish("container", "pause", container.id, container.event_attributes())

    async def unpause(self, container: Container) -> None:
        """Raises: Conflict."""
        async with self._registry.held(container):
            if container.state.status != "paused":
                raise Conflict(f"container {container.id} is not paused")
            await self._tasks.resume(container.id)
            container.state = container.state.unpause()
            await self._registry.save_state(container)
        self._events.publish("container", "unpause", container.id, container.event_attributes())

    # ---- wait ----

    def waiter(self, container: Container, condition: str) -> asyncio.Future[Ended]:
        """A future of the end that `condition` means. Raises: InvalidArgument."""
        if condition not in ("", "not-running", "next-exit", "removed"):
            raise InvalidArgument(f'invalid condition: "{condition}"')
        if condition in ("", "not-running"):
            return self._ended_future(container)
        future: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        waiters = container.removal_waiters if condition == "removed" else container.exit_waiters
        _await_in(waiters, future)
        return future

    # ---- change ----

    async def rename(self, container: Container, name: str) -> None:
        """Raises: InvalidArgument, Conflict."""
        if not name:
            raise InvalidArgument("Neither old nor new names may be empty")
        async with self._registry.held(container):
            old = container.name
            if name.removeprefix("/") == old:
                raise InvalidArgument("Renaming a container with the same name as its current name")
            try:
                await self._registry.rename(container, names.check(f"/{name.removeprefix('/')}"))
            except (Conflict, InvalidArgument) as e:
                raise type(e)(f"Error when allocating new name: {e}") from e
        attributes = {**container.event_attributes(), "oldName": f"/{old}"}
        self._events.publish("container", "rename", container.id, attributes)

    async def update(self, container: Container, wanted: HostConfig) -> tuple[str, ...]:
        """Change limits and restart policy; warnings. Raises: InvalidArgument, Conflict."""
        async with self._registry.held(container):
            if container.removing:
                raise Conflict(f"cannot update container {container.id}: container is marked for removal")
            try:
                host = update.updated(container.host, wanted)
            except Conflict as e:
                raise Conflict(f"Cannot update container {container.id}: {e}") from e
            limits_stay = host == replace(container.host, restart_policy=host.restart_policy)
            if container.state.running and not limits_stay:
                await self._tasks.update(container.id, resources.resources(host, ()).to_json())
            container.host = host
            await self._registry.save(container)
        self._events.publish("container", "update", container.id, container.event_attributes())
        return ()

    async def set_host(self, container: Container, host: HostConfig) -> None:
        """Replace its host side, for what takes effect with its next start."""
        async with self._registry.held(container):
            container.host = host
            await self._registry.save(container)

    async def resize(self, container: Container, height: int, width: int) -> None:
        """Raises: Conflict."""
        if not container.state.running:
            raise Conflict(f"container {container.id} is not running")
        await self._tasks.resize(container.id, height, width)
        attributes = {**container.event_attributes(), "height": str(height), "width": str(width)}
        self._events.publish("container", "resize", container.id, attributes)

    async def top(self, container: Container, ps_args: str) -> TopResponse:
        """`ps` of its processes, run on the host. Raises: Conflict, InvalidArgument."""
        _need_running(container)
        pids = set(map(str, await self._tasks.pids(container.id)))
        arguments = (ps_args or "-ef").split()
        top.check(ps_args)
        process = await asyncio.create_subprocess_exec(
            "ps", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await process.communicate()
        if process.returncode:
            raise InvalidArgument(f"ps: {err.decode(errors='replace').strip().partition(chr(10))[0]}")
        answer = top.select(out.decode(errors="replace"), pids)
        self._events.publish("container", "top", container.id, container.event_attributes())
        return answer

    # ---- remove ----

    async def remove(self, container: Container, *, force: bool, volumes: bool) -> None:
        """Raises: Conflict."""
        if container.removing:
            raise Conflict(f"removal of container {container.id} is already in progress")
        if not force:
            _need_removable(container)
        container.removing = True
        try:
            while True:
                if container.state.running and force:
                    await self._kill_and_wait(container)
                async with container.lock:
                    if self._registry.by_id(container.id) is not container:
                        return  # made with --rm: its own end removed it
                    if not force:
                        _need_removable(container)
                    if not container.state.running:
                        await self._remover.remove(container, volumes=volumes)
                        return
                    # A start that held the lock has ended: once more.
        except BaseException:
            container.removing = False
            raise

    def pruned(self, freed: int) -> None:
        """Tell that stopped containers were removed together."""
        self._events.publish("container", "prune", "", {"reclaimed": str(freed)})


def _need_removable(container: Container) -> None:
    reasons = {
        "paused": "paused and must be unpaused first",
        "running": "running: stop the container before removing or force remove",
        "restarting": "restarting: stop the container before removing or force remove",
    }
    reason = reasons.get(container.state.status)
    if reason is not None:
        raise Conflict(f'cannot remove container "/{container.name}": container is {reason}')


def _need_running(container: Container) -> None:
    if container.state.status == "restarting":
        raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
    if not container.state.running:
        raise Conflict(f"container {container.id} is not running")


def _await_in(waiters: list[asyncio.Future[Ended]], future: asyncio.Future[Ended]) -> None:
    """Add; a waiter who gives up (cancels) is taken out again."""
    waiters.append(future)
    future.add_done_callback(lambda f: waiters.remove(f) if f.cancelled() and f in waiters else None)

"""Execs: added to a running container, started with or without a client, kept for a while after their end.

    create()      stored, so that its id is good whatever happens to the daemon
    start()       stored as started; the task gets the process; its client is handed to the shim; the process starts
    ended()       heard of or found later: stored, told, forgotten by the task

The daemon's end can cut a start short before the process runs. The next daemon goes on with it when the client is the
shim's already, and so still waits; otherwise the client has gone with the daemon, and the exec is given up (CUT_SHORT).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable

from rorqual.api.exec import ExecConfig, ExecInspect, ExecProcessConfig, ExecStartConfig
from rorqual.daemon.background import Background
from rorqual.daemon.config import DaemonConfig
from rorqual.daemon.remote import Exit, Tasks
from rorqual.daemon.services import clock, detachkeys
from rorqual.daemon.services.containers import state as states
from rorqual.daemon.services.containers.attach import Connection, Streams
from rorqual.daemon.services.containers.networking import hostname_of
from rorqual.daemon.services.containers.record import Container, Exec
from rorqual.daemon.services.containers.registry import Registry
from rorqual.daemon.services.containers.start import exit_code_of
from rorqual.daemon.services.events import Events
from rorqual.daemon.spec import builder
from rorqual.errdefs import Conflict, Error, Internal, InvalidArgument, NotFound
from rorqual.rpc.stream import Attach

log = logging.getLogger(__name__)

KILLED = 137  # what nobody saw the end of
CUT_SHORT = 126  # as what could not be invoked
# What the runtime says of a container whose end it sees before anybody was told.
_ENDED = ("cannot exec in a stopped container", "no such process", "must be created")
_KEPT_NS = 300 * 10**9  # an ended exec can be inspected for five minutes, as in dockerd


class Execs:
    """All execs."""

    def __init__(
        self,
        registry: Registry,
        tasks: Tasks,
        streams: Streams,
        events: Events,
        background: Background,
        config: DaemonConfig,
    ) -> None:
        self._registry = registry
        self._tasks = tasks
        self._streams = streams
        self._events = events
        self._background = background
        self._config = config

    async def create(self, container: Container, wanted: ExecConfig) -> str:
        """The new exec's id; nothing runs yet. Raises: Conflict, InvalidArgument."""
        _need_running(container)
        if not wanted.cmd:
            raise InvalidArgument("No exec command specified")
        detachkeys.check(wanted.detach_keys, "Invalid escape keys ({}) provided")
        for entry in wanted.env or ():
            if not entry or entry.startswith("="):
                raise InvalidArgument(f"invalid environment variable: {entry}")
        await self._drop_old(container)
        run = Exec(
            id=secrets.token_hex(32),
            container_id=container.id,
            cmd=wanted.cmd,
            env=tuple(wanted.env or ()),
            user=wanted.user,
            working_dir=wanted.working_dir,
            tty=wanted.tty,
            privileged=wanted.privileged,
            attach_stdin=wanted.attach_stdin,
            attach_stdout=wanted.attach_stdout,
            attach_stderr=wanted.attach_stderr,
            detach_keys=wanted.detach_keys,
            console_size=wanted.console_size,
        )
        await self._registry.add_exec(container, run)
        self._publish(container, f"exec_create: {' '.join(run.cmd)}", run)
        return run.id

    async def _drop_old(self, container: Container) -> None:
        limit = clock.now_ns() - _KEPT_NS
        old = [run.id for run in container.execs.values() if run.exit_code is not None and run.finished_ns < limit]
        if old:
            await self._registry.drop_execs(container, old)

    def _publish(self, container: Container, action: str, run: Exec) -> None:
        self._events.publish("container", action, container.id, {**container.event_attributes(), "execID": run.id})

    def get(self, id: str) -> tuple[Exec, Container]:
        """Raises: NotFound."""
        run = self._registry.exec(id)
        container = self._registry.by_id(run.container_id)
        if container is None:
            raise NotFound(f"No such exec instance: {id}")
        return run, container

    async def start(
        self,
        run: Exec,
        container: Container,
        start: ExecStartConfig,
        connect: Callable[[], Connection] | None,
    ) -> None:
        """Run it; `connect`, called once the task has the process, gives the connection that its streams are for.

        Raises: Conflict, InvalidArgument before that, and what the runtime says, with Docker's text, after it.
        """
        _need_running(container)
        if run.started:
            if run.exit_code is not None:
                raise Conflict(f"exec {run.id} has already run")
            raise Conflict(f"exec {run.id} is already running")
        run.started = run.in_hand = True
        try:
            await self._add(run, container, start)
            self._publish(container, f"exec_start: {' '.join(run.cmd)}", run)
            await self._run(run, container, start, connect)
        except BaseException:
            await self._failed(run)
            raise
        finally:
            run.in_hand = False

    async def _add(self, run: Exec, container: Container, start: ExecStartConfig) -> None:
        process = builder.exec_process(
            container.config,
            container.host,
            hostname_of(container),
            cmd=run.cmd,
            env=run.env,
            user=run.user,
            cwd=run.working_dir,
            tty=run.tty,
            privileged=run.privileged,
            console_size=start.console_size or run.console_size,
            default_ulimits={n: (u["soft"], u["hard"]) for n, u in self._config.default_ulimits.items()},
        )
        await asyncio.gather(
            self._registry.save_exec(run),  # at once with the other: Exits makes sense of either without the other
            self._tasks.exec(container.id, run.id, process.to_json(), terminal=run.tty, stdin=run.attach_stdin),
        )

    async def _run(
        self, run: Exec, container: Container, start: ExecStartConfig, connect: Callable[[], Connection] | None
    ) -> None:
        try:
            if connect is not None:
                # The form of the stream follows the start request, whatever the exec was made with, as in dockerd.
                request = Attach(
                    exec_id=run.id,
                    stdin=run.attach_stdin,
                    stdout=run.attach_stdout,
                    stderr=run.attach_stderr,
                    tty=run.tty,
                    detach_keys=run.detach_keys,
                    mux=not start.tty,
                )
                await self._streams.exec(run, request, connect())
            await self._start(run)
        except BaseException as e:
            with contextlib.suppress(Error):  # what could not be started is gone already
                await self._tasks.delete_exec(container.id, run.id)
            if isinstance(e, Error):
                raise await self._refusal(container, e) from e
            raise

    async def _refusal(self, container: Container, error: Error) -> Error:
        """With Docker's text; that the container ended meanwhile says more than where the runtime noticed it."""
        ended = any(part in str(error) for part in _ENDED)
        if not ended:
            try:
                ended = (await self._tasks.get(container.id)).exit is not None
            except Error:
                ended = True
        return Conflict(f"container {container.id} is not running") if ended else _exec_error(error)

    async def _start(self, run: Exec) -> None:
        run.running = True
        run.pid = await self._tasks.start(run.container_id, run.id)
        if run.exit_code is not None:
            run.pid = 0  # it was that quick

    async def _failed(self, run: Exec) -> None:
        run.running = False
        # Whatever it was that failed, unlike at a start: dockerd 20.10 answers so, and docker-py's tests ask for it.
        run.exit_code = CUT_SHORT
        run.finished_ns = clock.now_ns()
        await self._registry.save_exec(run)

    # ---- ends ----

    def ended(self, container: Container, exec_id: str, end: Exit) -> None:
        """Record and tell an end, once."""
        run = container.execs.get(exec_id)
        if run is None or not run.started or run.exit_code is not None:
            return
        _finish(run, end)
        if self._events.told(container.id, "exec_die", 0, exec_id) is None:
            attributes = {**container.event_attributes(), "execID": exec_id, "exitCode": str(run.exit_code)}
            self._events.publish("container", "exec_die", container.id, attributes)
        self._background.spawn(self._settle(run), f"end of exec {exec_id[:12]}")

    async def _settle(self, run: Exec) -> None:
        """Once its end is stored the task may forget it."""
        try:
            await self._registry.save_exec(run)
            await self._tasks.delete_exec(run.container_id, run.id)
        except NotFound:
            pass  # the container's own end took it along
        except Error as e:
            log.warning("exec %s: %s", run.id, e)

    def container_ended(self, container: Container, at_ns: int) -> None:
        """No exec outlives its container."""
        for run in [run for run in container.execs.values() if run.running]:
            _finish(run, Exit(KILLED, at_ns))
            self._background.spawn(self._registry.save_exec(run), f"end of exec {run.id[:12]}")

    async def compare(self, container: Container) -> None:
        """Record what was missed: ends, and starts that the last daemon's end cut short."""
        for run in list(container.execs.values()):
            if run.exit_code is None and not run.in_hand:
                await self._compare(container, run)

    async def _compare(self, container: Container, run: Exec) -> None:
        try:
            found = await self._tasks.get(container.id, run.id)
        except NotFound:
            if run.started:  # else it only was created, and still can be started
                self.ended(container, run.id, Exit(KILLED, clock.now_ns()))
            return
        run.started = True  # it may not have been stored yet
        if found.exit is not None:
            self.ended(container, run.id, found.exit)
        elif found.status == states.CREATED:
            await self._go_on(container, run)
        else:
            run.running, run.pid = True, found.pid

    async def _go_on(self, container: Container, run: Exec) -> None:
        """With a start that was cut short, if its client waits at the shim."""
        run.in_hand = True
        try:
            if await self._streams.clients(run):
                await self._start(run)
                return
        except Error as e:
            log.warning("exec %s: its start was cut short: %s", run.id, e)
        finally:
            run.in_hand = False
        self.ended(container, run.id, Exit(CUT_SHORT, clock.now_ns()))

    async def inspect(self, id: str) -> ExecInspect:
        """Raises: NotFound."""
        run, container = self.get(id)
        ended = await self._end(run, container) if run.running else None
        exit_code = run.exit_code if ended is None else ended.status
        return ExecInspect(
            id=run.id,
            running=run.running and exit_code is None,
            exit_code=exit_code,
            process_config=ExecProcessConfig(run.tty, run.cmd[0], run.cmd[1:], run.privileged, run.user),
            open_stdin=run.attach_stdin,
            open_stderr=run.attach_stderr,
            open_stdout=run.attach_stdout,
            can_remove=exit_code is not None,
            container_id=run.container_id,
            detach_keys="",
            pid=run.pid if exit_code is None else 0,
        )

    async def _end(self, run: Exec, container: Container) -> Exit | None:
        """A client that saw its stream's end asks at once: the exit event may still be on its way."""
        try:
            return (await self._tasks.get(container.id, run.id)).exit
        except NotFound:
            await asyncio.sleep(0)
        except Error as e:
            log.debug("exec %s: %s", run.id, e)
        return None

    async def resize(self, id: str, height: int, width: int) -> None:
        """Raises: NotFound, Conflict."""
        run, container = self.get(id)
        if not run.running:
            raise Conflict(f"exec {id} is not running")
        await self._tasks.resize(container.id, height, width, run.id)


def _finish(run: Exec, end: Exit) -> None:
    run.running = False
    run.pid = 0
    run.exit_code = end.status
    run.finished_ns = end.at_ns or clock.now_ns()


def _need_running(container: Container) -> None:
    if container.state.status == "restarting":
        raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
    if not container.state.running:
        raise Conflict(f"container {container.id} is not running")
    if container.state.status == "paused":
        raise Conflict(f"container {container.id} is paused, unpause the container before exec")


def _exec_error(error: Error) -> Error:
    text = str(error)
    if "OCI runtime exec failed" not in text:
        text = f"OCI runtime exec failed: exec failed: {text}"
    kind: type[Error] = InvalidArgument if exit_code_of(text) in (126, 127) else Internal
    if "cannot exec in a paused container" in text:
        kind = Conflict  # it has become so after the look at its state
    return kind(text if text.endswith(": unknown") else f"{text}: unknown")

"""The start of a container: the hot path.

    sandbox ---------+--> files --> task create ---+--> attach clients --> task start --> running
    record at containerd                  connect -+
                        (what doesn't need the other runs at the same time)

Everything is undone when a step fails; the error has Docker's text and the exit code that dockerd stores (127 for a
command not found, 126 for one that can't be run, 128 otherwise).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
from collections.abc import Coroutine
from functools import partial
from typing import Any, Protocol

from rorqual.daemon.config import DaemonConfig
from rorqual.daemon.remote import Containers, Mount, Tasks
from rorqual.daemon.services import clock, health, logconfig
from rorqual.daemon.services.containers import attach, links
from rorqual.daemon.services.containers.attach import Streams
from rorqual.daemon.services.containers.networking import Networking, hostname_of, network_name
from rorqual.daemon.services.containers.record import Container
from rorqual.daemon.services.containers.registry import Registry
from rorqual.daemon.services.containers.remove import Remover
from rorqual.daemon.services.events import Events
from rorqual.daemon.services.volumemounts import VolumeMounts
from rorqual.daemon.spec import builder, mounts
from rorqual.errdefs import AlreadyExists, Conflict, Error, Internal, InvalidArgument, NotFound, NotModified
from rorqual.oci import runtime

log = logging.getLogger(__name__)

_INIT_NAMES = ("docker-init", "tini-static", "tini")


class RootfsSource(Protocol):
    """containerd's snapshots."""

    async def mounts(self, key: str) -> tuple[Mount, ...]:
        """How to mount it."""


class Starter:
    """Starts containers; `start` holds the container's lock, `run` expects it held."""

    def __init__(
        self,
        registry: Registry,
        records: Containers,
        tasks: Tasks,
        snapshots: RootfsSource,
        networking: Networking,
        streams: Streams,
        remover: Remover,
        volume_mounts: VolumeMounts,
        events: Events,
        config: DaemonConfig,
    ) -> None:
        self._registry = registry
        self._records = records
        self._tasks = tasks
        self._snapshots = snapshots
        self._networking = networking
        self._streams = streams
        self._remover = remover
        self._volume_mounts = volume_mounts
        self._events = events
        self._config = config

    async def start(self, container: Container) -> None:
        """Raises: NotModified when it runs already, Conflict, and what the start raises."""
        async with self._registry.held(container):
            status = container.state.status
            if status == "running":
                raise NotModified(f"container {container.id} is already running")
            if status == "paused":
                raise Conflict("cannot start a paused container, try unpause instead")
            if container.removing or status in ("removing", "dead"):
                raise Conflict("container is marked for removal and cannot be started")
            if container.retry is not None:
                container.retry.cancel()
                container.retry = None
            container.restarts = 0
            container.stopped_by_user = False
            await self.run(container)

    async def run(self, container: Container) -> None:
        """Bring the process up. On failure all is undone and the error recorded."""
        try:
            await self._run(container)
        except BaseException as e:
            await asyncio.shield(self._failed(container, e))
            raise

    async def _run(self, container: Container) -> None:
        rootfs = container.rootfs
        if rootfs is None:
            rootfs = container.rootfs = await self._snapshots.mounts(container.snapshot_key)
        netns = await self._networking.prepare(container)
        requests = {w.target: w for w in mounts.wanted(container.config, container.host)}
        replaced = await self._volume_mounts.attach(container, requests)
        spec = self._spec(container, netns, requests, replaced).to_json()
        await self._add_record(container, spec)
        create = self._tasks.create(
            container.id, rootfs, terminal=container.config.tty, options=self._task_options(container)
        )
        try:
            pid = await _both(create, self._networking.connect(container))
        except _TaskFailed as e:
            raise _create_error(e.error) from e.error
        await self._volume_mounts.created(container)
        await self._streams.deliver(container)
        now_ns = clock.now_ns()
        try:
            await self._tasks.start(container.id)
        except Error as e:
            raise _wrapped(e, "failed to start task for container: ") from e
        await self.started(container, pid, now_ns)

    async def started(self, container: Container, pid: int, at_ns: int) -> None:
        """Record and tell that its process runs."""
        container.state = container.state.start(pid, at_ns)
        container.health = health.starting(container.config)
        await self._registry.save_state(container)
        self._volume_mounts.started(container)
        self._events.publish("container", "start", container.id, container.event_attributes())

    async def _add_record(self, container: Container, spec: bytes) -> None:
        create = partial(
            self._records.create,
            container.id,
            image=container.config.image,
            spec=spec,
            snapshotter=container.snapshotter,
            key=container.snapshot_key,
        )
        try:
            await create()
        except AlreadyExists:  # the last run of the daemon was killed before it had taken it away
            await self._records.delete(container.id)
            await create()

    async def _failed(self, container: Container, error: BaseException) -> None:
        """Undo; what can't be is logged, it must not hide the first failure."""
        attach.drop(container)
        for what, undo in (
            ("task", self._tasks.destroy(container.id)),
            ("record", self._records.delete(container.id)),
            ("network", self._networking.release(container)),
            ("volumes", self._volume_mounts.detach(container)),
        ):
            try:
                await undo
            except Exception as e:
                log.warning("container %s: its %s could not be removed after a failed start: %s", container.id, what, e)
        container.networks, container.ports = {}, {}
        text = str(error) or type(error).__name__
        if container.state.running:  # it failed once the process ran, which is gone now: nothing will tell of its end
            container.state = container.state.exit(exit_code_of(text), clock.now_ns(), text)
        else:
            container.state = container.state.failed(exit_code_of(text), text)
        await self._registry.save_state(container)
        container.wake_exit()
        if container.host.auto_remove:
            await self._remover.remove(container, volumes=True)

    # ---- what the task is made from ----

    def _task_options(self, container: Container) -> bytes:
        host = container.host
        binary = self._config.runtime(host.runtime)
        log_options = logconfig.task_options(host.log_config, _subject(container), self._directory(container))
        options = {
            "log": log_options,
            "open_stdin": container.config.open_stdin,
            "stdin_once": container.config.stdin_once,
            "console_size": list(host.console_size[:2]) or [0, 0],
            "runtime": binary.path or "rorqual",
            "runtime_args": list(binary.args),
            "health": health.task_options(container.config, host, hostname_of(container), self._default_ulimits()),
        }
        return json.dumps(options).encode()

    def log_path(self, container: Container) -> str:
        """Its json-file log, "" for another driver."""
        return logconfig.json_path(container.host.log_config, container.id, self._directory(container))

    def log_source(self, container: Container) -> logconfig.Source | None:
        """Where its log can be read; None where it cannot."""
        return logconfig.source(container.host.log_config, _subject(container), self._directory(container))

    def _directory(self, container: Container) -> str:
        return str(self._networking.directory(container))

    def _spec(
        self,
        container: Container,
        netns: str,
        requests: dict[str, mounts.Wanted],
        replaced: dict[str, runtime.Mount],
    ) -> runtime.Spec:
        host = container.host
        hostname_file, hosts_file, resolv_file = self._networking.files(container)
        for point in container.mounts:
            if point.type == "bind" and not os.path.lexists(point.source):
                raise InvalidArgument(
                    f'invalid mount config for type "bind": bind source path does not exist: {point.source}'
                )
        return builder.build(
            builder.Inputs(
                id=container.id,
                config=container.config,
                host=host,
                path=container.path,
                args=container.args,
                hostname=hostname_of(container),
                mounts=_all_mounts(container, requests, replaced),
                cgroup_parent=self._config.parent_of_groups,
                cgroup_driver=self._config.cgroup_driver,
                network_namespace=netns,
                ipc_namespace=self._namespace(host.ipc_mode, "ipc"),
                pid_namespace=self._namespace(host.pid_mode, "pid"),
                hostname_file=hostname_file,
                hosts_file=hosts_file,
                resolv_file=resolv_file,
                init_path=self._init_path() if host.init else "",
                link_env=self._link_env(container),
                default_ulimits=self._default_ulimits(),
                default_shm_size=self._config.default_shm_size,
                no_new_privileges=self._config.no_new_privileges,
                seccomp_profile=self._seccomp_default(),
                cdi_directories=self._config.cdi_spec_dirs,
            )
        )

    def _link_env(self, container: Container) -> tuple[str, ...]:
        on_bridge = network_name(container.host.network_mode) == "bridge"
        return links.environment(container, self._registry) if on_bridge and container.host.links else ()

    def _default_ulimits(self) -> dict[str, tuple[int, int]]:
        return {n: (u["soft"], u["hard"]) for n, u in self._config.default_ulimits.items()}

    def _seccomp_default(self) -> str:
        profile = self._config.seccomp_profile
        if profile in ("", "builtin"):
            return ""
        if profile == "unconfined":
            return profile
        try:
            with open(profile, encoding="utf-8") as file:
                return file.read()
        except OSError as e:
            raise InvalidArgument(f"opening seccomp profile ({profile}) failed: {e.strerror}") from e

    def _namespace(self, mode: str, kind: str) -> str:
        if mode == "host":
            return "host"
        if not mode.startswith("container:"):
            return ""
        other = self._registry.get(mode.partition(":")[2])
        if not other.state.running:
            raise Conflict(f"cannot join {kind.upper()} namespace of a non running container: {other.id}")
        return f"/proc/{other.state.pid}/ns/{kind}"

    def _init_path(self) -> str:
        if self._config.init_path:
            return self._config.init_path
        for name in _INIT_NAMES:
            found = shutil.which(name, path="/usr/libexec/docker:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            if found:
                return found
        raise Internal('exec: "docker-init": executable file not found in $PATH')


class _TaskFailed(Exception):
    """Tells the task's failure from the network's."""

    def __init__(self, error: Error) -> None:
        super().__init__(str(error))
        self.error = error


async def _both(create: Coroutine[Any, Any, int], connect: Coroutine[Any, Any, None]) -> int:
    """Create the task and connect its network at the same time; neither runs on when this returns."""

    async def task() -> int:
        try:
            return await create
        except Error as e:
            raise _TaskFailed(e) from e

    created = asyncio.create_task(task(), name="task create")
    connected = asyncio.create_task(connect, name="connect")
    done = await asyncio.gather(created, connected, return_exceptions=True)
    # The network's failure is the clearer one: a task may fail because of it.
    for result in (done[1], done[0]):
        if isinstance(result, BaseException):
            raise result
    return created.result()


def _create_error(error: Error) -> Error:
    return _wrapped(error, "failed to create task for container: failed to create shim task: ")


def _wrapped(error: Error, prefix: str) -> Error:
    text = str(error)
    kind = InvalidArgument if exit_code_of(text) in (126, 127) else Internal
    if isinstance(error, Conflict | NotFound):
        kind = Internal
    if "OCI runtime" in text and not text.endswith(": unknown"):
        text += ": unknown"  # as gRPC's status reads in dockerd's answer; scripts compare the whole line
    return kind(text if text.startswith(prefix) else prefix + text)


_NOT_FOUND = ("executable file not found", "no such file or directory", "system cannot find the file specified")
_NOT_INVOKABLE = ("permission denied", "not a directory", "is a directory", "operation not permitted", "exec format")


def exit_code_of(text: str) -> int:
    """The exit code that dockerd stores for a start that failed with `text`."""
    lowered = text.lower()
    if any(part in lowered for part in _NOT_FOUND):
        return 127
    if any(part in lowered for part in _NOT_INVOKABLE):
        return 126
    return 128


def _all_mounts(
    container: Container, requests: dict[str, mounts.Wanted], replaced: dict[str, runtime.Mount]
) -> list[runtime.Mount]:
    own = {point.destination for point in container.mounts}
    more = [mount for target, mount in replaced.items() if target not in own]
    return [*mounts.to_spec(container.mounts, requests, replaced), *more]


def _subject(container: Container) -> logconfig.Subject:
    return logconfig.Subject(
        id=container.id,
        name=container.name,
        image_id=container.image_id,
        created_ns=container.created_ns,
        path=container.path,
        args=container.args,
        config=container.config,
    )

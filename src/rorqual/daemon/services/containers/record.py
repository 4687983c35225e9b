"""A container's record: what was asked, what it became, and who waits for it.

The record in memory is what every request reads; the rows in daemon.db are what a new daemon starts from. What never
changes after create is one document, the state another (store.daemondb).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rorqual.api import codec
from rorqual.api.config import ContainerConfig, HostConfig, PortBinding
from rorqual.api.container import Health, MountPoint
from rorqual.api.network import EndpointSettings
from rorqual.daemon.remote import Mount
from rorqual.daemon.services.containers.state import DEFAULT_DELAYS_S, PAUSED, State
from rorqual.daemon.store.daemondb import ContainerRow, ExecRow
from rorqual.errdefs import NotFound


@dataclass(frozen=True, slots=True)
class Ended:
    """What waiters get."""

    exit_code: int
    error: str = ""


@dataclass(slots=True, eq=False)
class Exec:
    """A process added to a container. `exit_code` None until it ended (or could not be started)."""

    id: str
    container_id: str
    cmd: tuple[str, ...]
    env: tuple[str, ...]
    user: str
    working_dir: str
    tty: bool
    privileged: bool
    attach_stdin: bool
    attach_stdout: bool
    attach_stderr: bool
    detach_keys: str
    console_size: tuple[int, ...] | None
    started: bool = False
    running: bool = False
    pid: int = 0
    exit_code: int | None = None
    finished_ns: int = 0
    in_hand: bool = False  # a request of this daemon is starting it: nothing that is stored

    def to_row(self) -> ExecRow:
        """Its stored form."""
        document = asdict(self)
        del document["in_hand"]
        return ExecRow(self.container_id, self.id, _dump(document))


@dataclass(slots=True, eq=False)
class Container:
    """One container. Mutable: changed only by its services, under `lock`."""

    id: str
    name: str
    created_ns: int
    path: str
    args: tuple[str, ...]
    image_id: str
    config: ContainerConfig
    host: HostConfig
    endpoints: dict[str, EndpointSettings]  # asked for, by network name
    mounts: tuple[MountPoint, ...]
    snapshotter: str
    platform: str
    state: State = field(default_factory=State)
    restarts: int = 0
    stopped_by_user: bool = False
    paused_briefly: bool = False  # by a commit: never stored, so that the daemon's end does not leave it so
    health: Health | None = None  # None without a health check
    restart_unhealthy: bool = False
    for_build: bool = False  # it runs a step of a build that goes on
    restart_delays_s: tuple[float, float] = DEFAULT_DELAYS_S  # the first wait before a restart, and the longest
    networks: dict[str, EndpointSettings] = field(default_factory=dict)  # as they are, while running
    ports: dict[str, tuple[PortBinding, ...] | None] = field(default_factory=dict)
    # In memory only:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    rootfs: tuple[Mount, ...] | None = None
    execs: dict[str, Exec] = field(default_factory=dict)
    exit_waiters: list[asyncio.Future[Ended]] = field(default_factory=list)
    removal_waiters: list[asyncio.Future[Ended]] = field(default_factory=list)
    pending: list[Any] = field(default_factory=list)  # attach.Pending: clients that came before the task
    retry: asyncio.Task[None] | None = None
    retry_delay_s: float = 0.0
    removing: bool = False

    @property
    def short_id(self) -> str:
        """The first twelve digits."""
        return self.id[:12]

    @property
    def hostname(self) -> str:
        """What its processes see, unless it shares another's."""
        return self.config.hostname or self.short_id

    @property
    def snapshot_key(self) -> str:
        """Its root filesystem."""
        return self.id

    def event_attributes(self) -> dict[str, str]:
        """What Docker tells of a container in each of its events."""
        return {**(self.config.labels or {}), "image": self.config.image, "name": self.name}

    def check_kept(self) -> None:
        """For who has read its files, or failed to. Raises: NotFound when they are being removed."""
        if self.removing:
            raise NotFound(f"No such container: {self.id}")

    def wake_exit(self) -> None:
        """Tell who waits for the end of the process."""
        _wake(self.exit_waiters, Ended(self.state.exit_code))

    def wake_removal(self) -> None:
        """Tell who waits for the removal; that a start had failed was told to who started it."""
        _wake(self.removal_waiters, Ended(self.state.exit_code))

    def to_row(self) -> ContainerRow:
        """Both documents."""
        document = {
            "Created": self.created_ns,
            "Path": self.path,
            "Args": list(self.args),
            "Image": self.image_id,
            "Config": codec.to_json(self.config),
            "HostConfig": codec.to_json(self.host),
            "Endpoints": codec.to_json(self.endpoints),
            "Mounts": codec.to_json(self.mounts),
            "Snapshotter": self.snapshotter,
            "Platform": self.platform,
            "RestartUnhealthy": self.restart_unhealthy,
            "ForBuild": self.for_build,
            "RestartDelays": list(self.restart_delays_s),
        }
        return ContainerRow(self.id, self.name, _dump(document), self.state_text())

    def state_text(self) -> str:
        """The state's document."""
        state = self.state.unpause() if self.paused_briefly and self.state.status == PAUSED else self.state
        return _dump(
            {
                "State": state.to_json(),
                "Restarts": self.restarts,
                "StoppedByUser": self.stopped_by_user,
                "Health": None if self.health is None else codec.to_json(self.health),
                "Networks": codec.to_json(self.networks),
                "Ports": codec.to_json(self.ports),
            }
        )


_dump = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def _wake(waiters: list[asyncio.Future[Ended]], ended: Ended) -> None:
    for future in waiters:
        if not future.done():
            future.set_result(ended)
    waiters.clear()


def from_row(row: ContainerRow) -> Container:
    """The record of a stored container. Raises: InvalidArgument for a row that isn't ours."""
    document, state = codec.loads(row.document), codec.loads(row.state)
    return Container(
        id=row.id,
        name=row.name,
        created_ns=document["Created"],
        path=document["Path"],
        args=tuple(document["Args"]),
        image_id=document["Image"],
        config=codec.from_json(ContainerConfig, document["Config"]),
        host=codec.from_json(HostConfig, document["HostConfig"]),
        endpoints=_endpoints(document["Endpoints"]),
        mounts=tuple(codec.from_json(MountPoint, m) for m in document["Mounts"]),
        snapshotter=document["Snapshotter"],
        platform=document["Platform"],
        state=State.from_json(state["State"]),
        restarts=state["Restarts"],
        stopped_by_user=state["StoppedByUser"],
        health=codec.from_json(Health, state["Health"]) if state.get("Health") else None,
        restart_unhealthy=document.get("RestartUnhealthy", False),
        for_build=document.get("ForBuild", False),
        restart_delays_s=tuple(document.get("RestartDelays", DEFAULT_DELAYS_S)),
        networks=_endpoints(state["Networks"]),
        ports={
            port: None if bindings is None else tuple(codec.from_json(PortBinding, b) for b in bindings)
            for port, bindings in state["Ports"].items()
        },
    )


def exec_from_row(row: ExecRow) -> Exec:
    """A stored exec."""
    document = json.loads(row.document)
    for name in ("cmd", "env"):
        document[name] = tuple(document[name])
    size = document["console_size"]
    return Exec(**document | {"console_size": None if size is None else tuple(size)})


def _endpoints(data: Mapping[str, Any]) -> dict[str, EndpointSettings]:
    return {name: codec.from_json(EndpointSettings, value) for name, value in data.items()}

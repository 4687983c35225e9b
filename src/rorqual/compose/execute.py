"""Making a project's networks, volumes and containers what they should be, and starting, stopping and removing them.

`progress(kind, name, state)` is told of each step ("Container", "web-1", "Creating"). Several things are done at once,
in the order that services depend on each other. Killed at any point, the next `up` goes on from what there is.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TypeVar

from rorqual import errdefs
from rorqual.client import Client
from rorqual.compose import containers, hooks, injected, labels, observe, plan, waiting
from rorqual.compose.kinds import JSON, duration_ns
from rorqual.compose.observe import Seen
from rorqual.compose.parallel import Clients, Progress, each, in_order
from rorqual.compose.project import Project, dependencies_of, replicas, shared_services
from rorqual.compose.provision import Provisioner

T = TypeVar("T")
_ANONYMOUS = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Options:
    """`scale`: numbers of containers that go before the file's. `timeout_s` of stops; None: the containers' own."""

    recreate: plan.Policy = "diverged"
    recreate_dependencies: plan.Policy = "diverged"
    services: Collection[str] = ()
    scale: Mapping[str, int] = field(default_factory=dict)
    timeout_s: int | None = None
    renew_volumes: bool = False
    all_resources: bool = False
    separator: str = "-"
    most: int = 0


class Executor:
    """Works on one project. Raises: as `Client.request`; Conflict, NotFound, InvalidArgument with Compose's texts."""

    def __init__(self, connect: Callable[[], Client], project: Project, progress: Progress, options: Options) -> None:
        self._clients = Clients(connect)
        self._project = project
        self._progress = progress
        self._options = options
        self._made: dict[str, list[Seen]] = {}
        self._stop = threading.Event()
        self._moved: set[str] = set()  # services whose containers are others than before
        self._network_ids: dict[str, str] = {}

    @property
    def _client(self) -> Client:
        return self._clients.client

    def give_up(self) -> None:
        """What is under way ends, nothing more is begun: for another thread."""
        self._stop.set()

    def _each(self, items: Iterable[T], act: Callable[[T], object]) -> None:
        each(items, act, most=self._options.most, stop=self._stop)

    def ensure_resources(self) -> None:
        """Networks and volumes that are missing are made."""
        ground = Provisioner(self._clients, self._project, self._progress, self._empty, stop=self._stop)
        self._network_ids = ground.ensure(every=self._options.all_resources, most=self._options.most)

    def _empty(self, network: str) -> None:
        """Stops what is on a network; it is made anew afterwards, as the next one has another ID."""
        for seen in observe.everything(self._client, self._project.name):
            networks = (seen.summary.get("NetworkSettings") or {}).get("Networks") or {}
            if network in networks and seen.running:
                self._stop_one(seen, self._project.services.get(seen.service) or {})

    # Containers

    def create(self) -> None:
        """All of the services' containers as they should be, not started."""
        self._refresh()
        in_order(self._needs(), self._converge, most=self._options.most, stop=self._stop)

    def _refresh(self) -> None:
        self._made = {}
        for seen in observe.containers(self._client, self._project.name):
            self._made.setdefault(seen.service, []).append(seen)

    def _needs(self) -> dict[str, list[str]]:
        return {name: list(dependencies_of(service)) for name, service in self._project.services.items()}

    def _converge(self, name: str) -> None:
        service = self._project.services[name]
        options = self._options
        policy = options.recreate
        if options.services and name not in options.services:
            policy = options.recreate_dependencies
        wanted = options.scale.get(name, replicas(service))
        image_id, image_volumes = self._image(self._project.image(name))
        facts = plan.Facts(
            image_id,
            {
                self._project.networks[key]["name"]: self._network_ids[key]
                for key in service.get("networks") or ()
                if key in self._network_ids
            },
            moved=any(other in self._moved for other in shared_services(service)),
        )
        actions = plan.plan(service, self._made.get(name, []), wanted, policy, facts)
        around = self.around(image_id)
        after: list[Seen] = []

        def act(action: plan.Action) -> None:
            match action:
                case plan.Remove(seen):
                    self._remove_one(seen, service)
                case plan.Rename(seen, new_name):
                    self._client.containers.rename(seen.id, new_name)
                case plan.Keep(seen):
                    after.append(seen)
                case plan.Recreate(seen):
                    self._moved.add(name)
                    after.append(self._recreate(name, service, seen, around, image_volumes))
                case plan.Create(number):
                    self._moved.add(name)
                    shown = plan.container_name(self._project, name, service, number, options.separator)
                    self._progress("Container", shown, "Creating")
                    id = self._create(name, service, number, shown, around, {})
                    self._progress("Container", shown, "Created")
                    after.append(self._seen(id))

        self._each([a for a in actions if isinstance(a, plan.Remove | plan.Rename)], act)
        self._each([a for a in actions if not isinstance(a, plan.Remove | plan.Rename)], act)
        self._made[name] = sorted(after, key=lambda seen: seen.number)

    def _image(self, image: str) -> tuple[str, set[str]]:
        """(ID, paths of its volumes); nothing of an image that is not there, which the creation says better."""
        try:
            found = self._client.images.inspect(image)
        except errdefs.NotFound:
            return "", set()
        return str(found["Id"]), set((found.get("Config") or {}).get("Volumes") or ())

    def around(self, image_id: str) -> containers.Surroundings:
        """What a container's settings refer to, of what there is."""
        if not self._made:
            self._refresh()

        def links(name: str) -> list[str]:
            return [seen.name for seen in self._made.get(name, ())]

        def container_of(name: str) -> str:
            made = self._made.get(name)
            if not made:
                raise errdefs.NotFound(f"cannot share namespace with service {name}: container missing")
            return made[0].id

        return containers.Surroundings(image_id, container_of, links)

    def _seen(self, id: str) -> Seen:
        (summary,) = self._client.containers.list(all=True, filters={"id": [id]})
        return Seen(summary)

    def _create(
        self, name: str, service: JSON, number: int, shown: str, around: containers.Surroundings, own: JSON
    ) -> str:
        own = {labels.NUMBER: str(number), labels.ONE_OFF: "False", **own}
        body = containers.body(self._project, name, service, around, own=own)
        return self.create_container(body, shown, service)

    def create_container(self, body: JSON, name: str, service: JSON) -> str:
        """A container with its networks; its ID."""
        client = self._client
        endpoints: JSON = body["NetworkingConfig"]["EndpointsConfig"]
        later: JSON = {}
        if len(endpoints) > 1 and not client.at_least("1.44"):
            later = dict(list(endpoints.items())[1:])
            first = next(iter(endpoints))
            body = {**body, "NetworkingConfig": {"EndpointsConfig": {first: endpoints[first]}}}
        answer = client.containers.create(body, name=name, platform=service.get("platform"))
        for warning in answer.get("Warnings") or ():
            self._progress("Warning", "", warning)
        id: str = answer["Id"]
        try:
            for network, endpoint in later.items():
                client.networks.connect(network, id, endpoint)
        except BaseException:
            client.containers.remove(id, force=True, volumes=True)
            raise
        return id

    def inject(self, id: str, service: JSON) -> None:
        """Secrets and configs that are no files of the host, before each start: they may be others by now."""
        for archive in injected.archives(self._project, service):
            self._client.containers.put_archive(id, "/", archive)

    def _recreate(
        self, name: str, service: JSON, old: Seen, around: containers.Surroundings, image_volumes: set[str]
    ) -> Seen:
        """In an order that always leaves one of the two to be found: see `plan.Rename`."""
        shown = plan.container_name(self._project, name, service, old.number, self._options.separator)
        self._progress("Container", shown, "Recreate")
        if not self._options.renew_volumes:
            around = replace(around, volumes=_anonymous(service, old, image_volumes))
        id = self._create(name, service, old.number, f"{old.id[:12]}_{shown}", around, {labels.REPLACES: shown})
        was_running = old.running
        self._stop_one(old, service, quiet=True)
        self._client.containers.remove(old.id, force=True, volumes=self._options.renew_volumes)
        if self._options.renew_volumes:
            self._remove_anonymous(old)
        self._client.containers.rename(id, shown)
        self._progress("Container", shown, "Recreated")
        seen = self._seen(id)
        return seen if not was_running else Seen({**seen.summary, "WasRunning": True})

    # Starting and stopping

    def start(self, *, wait: bool = False, wait_timeout_s: float = 0) -> None:
        """Every service's containers, each service once what it depends on is as it wants it.

        `wait`: until all are running, or healthy where they can be.
        """
        deadline = time.monotonic() + wait_timeout_s if wait_timeout_s else 0.0
        if not self._made:
            self._refresh()
        in_order(
            self._needs(), lambda name: self._start_service(name, deadline), most=self._options.most, stop=self._stop
        )
        if not wait:
            return
        conditions = [
            (other, how.get("condition"))
            for service in self._project.services.values()
            for other, how in dependencies_of(service).items()
        ]
        for name in self._project.services:
            if (name, "service_completed_successfully") not in conditions:
                waiting.ready(self._client, self._made.get(name, ()), self._progress, deadline, self._stop)

    def _start_service(self, name: str, deadline: float) -> None:
        service = self._project.services[name]
        made = self._made.get(name, ())
        if not made:
            return
        self.wait_for(service, deadline)

        def start(seen: Seen) -> None:
            if seen.state == "running":
                self._progress("Container", seen.name, "Running")
                return
            self._progress("Container", seen.name, "Starting")
            self.inject(seen.id, service)
            with suppress(errdefs.NotModified):  # by somebody else, meanwhile
                self._client.containers.start(seen.id)
            hooks.run(self._client, seen, service.get("post_start") or ())
            self._progress("Container", seen.name, "Started")

        self._each(made, start)

    def wait_for(self, service: JSON, deadline: float = 0.0) -> None:
        """Until what a service depends on is as it wants it; not what is left out, or has no containers by wish."""
        for other, how in dependencies_of(service).items():
            below = self._project.services.get(other)
            if below is None or self._options.scale.get(other, replicas(below)) == 0:
                continue
            made = self._made.get(other, ())
            waiting.dependency(self._client, other, how, made, self._progress, deadline, self._stop)

    def made(self, name: str) -> Sequence[Seen]:
        """The service's containers after `create`."""
        return self._made.get(name, ())

    def _stop_one(self, seen: Seen, service: JSON, *, quiet: bool = False) -> None:
        if not seen.running:
            return
        if not quiet:
            self._progress("Container", seen.name, "Stopping")
        if seen.state == "running":
            hooks.run(self._client, seen, service.get("pre_stop") or ())
        with suppress(errdefs.NotModified):  # it ended meanwhile
            self._client.containers.stop(seen.id, timeout_s=self.stop_timeout(service))
        if not quiet:
            self._progress("Container", seen.name, "Stopped")

    def stop_timeout(self, service: JSON) -> int | None:
        if self._options.timeout_s is not None:
            return self._options.timeout_s
        grace = service.get("stop_grace_period")
        return -(-duration_ns(grace) // 10**9) if grace else None

    def _remove_one(self, seen: Seen, service: JSON, *, volumes: bool = False) -> None:
        try:
            self._stop_one(seen, service)
            self._progress("Container", seen.name, "Removing")
            self._client.containers.remove(seen.id, force=True, volumes=volumes)
            if volumes:
                self._remove_anonymous(seen)
        except errdefs.NotFound:
            pass  # somebody else removed it meanwhile: it is gone
        except errdefs.Conflict as e:
            if "already in progress" not in str(e):
                raise
        self._progress("Container", seen.name, "Removed")

    def _remove_anonymous(self, seen: Seen) -> None:
        """Those that went over from a container before: the engine takes them for named ones."""
        declared = {volume["name"] for volume in self._project.volumes.values()}
        for name in set(seen.volumes.values()) - declared:
            if _ANONYMOUS.fullmatch(name):
                with suppress(errdefs.NotFound, errdefs.Conflict):
                    self._client.volumes.remove(name)

    def remove(self, found: Sequence[Seen], *, volumes: bool) -> None:
        """Stops and removes, what depends on others before them."""
        self._by_service(found, lambda seen, service: self._remove_one(seen, service, volumes=volumes))

    def stop(self, found: Sequence[Seen]) -> None:
        self._by_service(found, self._stop_one)

    def _by_service(self, found: Sequence[Seen], act: Callable[[Seen, JSON], None]) -> None:
        groups: dict[str, list[Seen]] = {}
        for seen in found:
            groups.setdefault(seen.service, []).append(seen)
        needs: dict[str, list[str]] = {}
        for name, group in groups.items():
            needs[name] = list(dependencies_of(self._project.services.get(name) or group[0].needs()))

        def group_of(name: str) -> None:
            service = self._project.services.get(name) or self._project.disabled.get(name) or {}
            self._each(groups[name], lambda seen: act(seen, service))

        in_order(needs, group_of, most=self._options.most, reverse=True)


def _anonymous(service: JSON, old: Seen, image_volumes: set[str]) -> dict[str, str]:
    """The volumes without a name of a container, by their path, where the service would have one again."""
    mounted = [volume for volume in service.get("volumes") or () if volume["type"] == "volume"]
    wanted = image_volumes | {volume["target"] for volume in mounted if "source" not in volume}
    return {path: name for path, name in old.volumes.items() if path in wanted and _ANONYMOUS.fullmatch(name)}

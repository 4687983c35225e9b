"""What there is of a project on the engine, found by its labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rorqual.client import Client
from rorqual.compose import labels
from rorqual.compose.kinds import JSON


@dataclass(frozen=True, slots=True)
class Seen:
    """A container, of the answer of GET /containers/json."""

    summary: JSON

    @property
    def id(self) -> str:
        return str(self.summary["Id"])

    @property
    def name(self) -> str:
        names = [name for name in self.summary["Names"] if name.count("/") == 1]
        return str((names or self.summary["Names"] or [self.id[:12]])[0]).lstrip("/")

    @property
    def labels(self) -> JSON:
        return self.summary["Labels"] or {}

    @property
    def service(self) -> str:
        return str(self.labels.get(labels.SERVICE, ""))

    @property
    def number(self) -> int:
        text = self.labels.get(labels.NUMBER, "")
        return int(text) if text.isdecimal() else 0

    @property
    def one_off(self) -> bool:
        return bool(self.labels.get(labels.ONE_OFF, "").lower() == "true")

    @property
    def state(self) -> str:
        return str(self.summary["State"])

    @property
    def running(self) -> bool:
        return self.state in ("running", "paused", "restarting")

    @property
    def volumes(self) -> dict[str, str]:
        """Volumes by their target."""
        mounts = self.summary.get("Mounts") or ()
        return {m["Destination"]: m["Name"] for m in mounts if m["Type"] == "volume" and m.get("Name")}

    def needs(self) -> JSON:
        """What its label tells of its service, for who has no file: {"depends_on": ...}."""
        entries = [entry.split(":") for entry in self.labels.get(labels.DEPENDS_ON, "").split(",") if entry]
        found = {
            name: {"condition": next(iter(rest), "service_started"), "required": True, "restart": rest[1:] == ["true"]}
            for name, *rest in entries
        }
        return {"depends_on": found} if found else {}

    def short(self, project: str) -> str:
        """The name as the project's logs have it."""
        return self.name.removeprefix(project + "-")


def containers(client: Client, project: str, *, all: bool = True, services: Iterable[str] = ()) -> list[Seen]:
    """Of the project, by service and number; of those services alone when there are any. Not one-offs of `run`.

    Raises: as `Client.request`.
    """
    return [seen for seen in everything(client, project, all=all, services=services) if not seen.one_off]


def everything(client: Client, project: str, *, all: bool = True, services: Iterable[str] = ()) -> list[Seen]:
    """The same with one-offs."""
    wanted = set(services)
    found = client.containers.list(all=all, filters={"label": [f"{labels.PROJECT}={project}"]})
    seen = [Seen(summary) for summary in found]
    return sorted(
        (s for s in seen if s.service and (not wanted or s.service in wanted)),
        key=lambda s: (s.service, s.one_off, s.number, s.name),
    )


def networks(client: Client, project: str) -> list[JSON]:
    return client.networks.list({"label": [f"{labels.PROJECT}={project}"]})


def volumes(client: Client, project: str) -> list[JSON]:
    found: list[JSON] = client.volumes.list({"label": [f"{labels.PROJECT}={project}"]}).get("Volumes") or []
    return found


def projects(client: Client) -> dict[str, list[Seen]]:
    """Every project's containers."""
    found: dict[str, list[Seen]] = {}
    for summary in client.containers.list(all=True, filters={"label": [labels.PROJECT]}):
        seen = Seen(summary)
        found.setdefault(seen.labels[labels.PROJECT], []).append(seen)
    return found

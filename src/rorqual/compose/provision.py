"""A project's networks and volumes, made where they are missing."""

from __future__ import annotations

import threading
from collections.abc import Callable

from rorqual import errdefs
from rorqual.compose import labels
from rorqual.compose.kinds import JSON
from rorqual.compose.parallel import Clients, Progress, each
from rorqual.compose.project import Project, config_hash
from rorqual.version import __version__


class Provisioner:
    """`empty(network)` stops what is on a network that must be made anew. Raises: as `Client.request`; NotFound."""

    def __init__(
        self,
        clients: Clients,
        project: Project,
        progress: Progress,
        empty: Callable[[str], None],
        *,
        stop: threading.Event,
    ) -> None:
        self._clients = clients
        self._project = project
        self._progress = progress
        self._empty = empty
        self._stop = stop
        self._network_ids: dict[str, str] = {}

    def _used(self, kind: str, *, every: bool) -> list[str]:
        """Of the project's networks or volumes those that an enabled service uses."""
        declared: JSON = self._project.document.get(kind) or {}
        if every:
            return list(declared)
        used: set[str] = set()
        for service in self._project.services.values():
            if kind == "networks":
                used |= set(service.get("networks") or ())
            else:
                used |= {v.get("source", "") for v in service.get("volumes") or () if v["type"] == "volume"}
        return [name for name in declared if name in used]

    def ensure(self, *, every: bool, most: int) -> dict[str, str]:
        """What is missing is made; the networks' IDs. `every`: also what no service uses."""
        each(self._used("networks", every=every), self._ensure_network, most=most, stop=self._stop)
        each(self._used("volumes", every=every), self._ensure_volume, most=most, stop=self._stop)
        return self._network_ids

    def _ensure_network(self, key: str) -> None:
        network = self._project.networks[key]
        name = network["name"]
        try:
            found = self._clients.client.networks.inspect(name)
        except errdefs.NotFound:
            if network.get("external"):
                raise errdefs.NotFound(f"network {name} declared as external, but could not be found") from None
            self._network_ids[key] = self._create_network(key, network)
            return
        self._network_ids[key] = found["Id"]
        if network.get("external"):
            return
        own = found.get("Labels") or {}
        if own.get(labels.PROJECT, "") != self._project.name:
            text = f"a network with name {name} exists but was not created for project {self._project.name}"
            self._progress("Warning", "", f"{text}. Set `external: true` to use an existing network")
            return
        if own.get(labels.CONFIG_HASH, "") not in ("", config_hash(network)):
            self._replace_network(key, network, found)

    def _replace_network(self, key: str, network: JSON, found: JSON) -> None:
        """Its containers are made anew afterwards, as they are on a network of another ID."""
        self._empty(network["name"])
        self._progress("Network", network["name"], "Removing")
        self._clients.client.networks.remove(found["Id"])
        self._progress("Network", network["name"], "Removed")
        self._network_ids[key] = self._create_network(key, network)

    def _create_network(self, key: str, network: JSON) -> str:
        name = network["name"]
        self._progress("Network", name, "Creating")
        own = {
            labels.PROJECT: self._project.name, labels.NETWORK: key, labels.VERSION: __version__,
            labels.CONFIG_HASH: config_hash(network),
        }  # fmt: skip
        config: JSON = {
            "Name": name,
            "Driver": network.get("driver", ""),
            "Options": network.get("driver_opts"),
            "Internal": bool(network.get("internal")),
            "Attachable": bool(network.get("attachable")),
            "Labels": {**(network.get("labels") or {}), **own},
        }
        for field_name, option in (("EnableIPv4", "enable_ipv4"), ("EnableIPv6", "enable_ipv6")):
            if option in network:
                config[field_name] = network[option]
        if ipam := network.get("ipam"):
            pools = [
                {
                    "Subnet": pool.get("subnet", ""), "IPRange": pool.get("ip_range", ""),
                    "Gateway": pool.get("gateway", ""), "AuxiliaryAddresses": pool.get("aux_addresses"),
                }
                for pool in ipam.get("config") or ()
            ]  # fmt: skip
            config["IPAM"] = {"Driver": ipam.get("driver", ""), "Config": pools, "Options": ipam.get("options")}
        created: str = self._clients.client.networks.create(config)["Id"]
        self._progress("Network", name, "Created")
        return created

    def _ensure_volume(self, key: str) -> None:
        volume = self._project.volumes[key]
        name = volume["name"]
        try:
            found = self._clients.client.volumes.inspect(name)
        except errdefs.NotFound:
            if volume.get("external"):
                raise errdefs.NotFound(f'external volume "{name}" not found') from None
        else:
            own = (found.get("Labels") or {}).get(labels.PROJECT, "")
            if not volume.get("external") and own != self._project.name:
                by = f'was created for project "{own}" (expected "{self._project.name}")'
                text = by if own else "was not created by Compose"
                self._progress(
                    "Warning", "", f'volume "{name}" already exists but {text}. Use `external: true` to use it'
                )
            return
        self._progress("Volume", name, "Creating")
        own_labels = {
            labels.PROJECT: self._project.name, labels.VOLUME: key, labels.VERSION: __version__,
            labels.CONFIG_HASH: config_hash(volume),
        }  # fmt: skip
        self._clients.client.volumes.create(
            {
                "Name": name,
                "Driver": volume.get("driver", ""),
                "DriverOpts": volume.get("driver_opts"),
                "Labels": {**(volume.get("labels") or {}), **own_labels},
            }
        )
        self._progress("Volume", name, "Created")

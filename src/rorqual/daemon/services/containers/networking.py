"""A container's network: which kind, its sandbox, its endpoints, and its /etc files.

none             a namespace of its own, which the runtime makes
host             the host's
container:<id>   another container's, files included
anything else    a sandbox of libnetwork, joined to that network and the others asked for
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Protocol

from rorqual.api.network import EndpointSettings
from rorqual.daemon.config import DaemonConfig
from rorqual.daemon.services.containers import links, ports
from rorqual.daemon.services.containers.record import Container
from rorqual.daemon.services.containers.registry import Registry
from rorqual.daemon.services.events import Events
from rorqual.errdefs import Conflict, InvalidArgument, NotFound, PermissionDenied
from rorqual.libnetwork.files import HOST_GATEWAY
from rorqual.libnetwork.model import (
    Endpoint,
    EndpointConfig,
    Network,
    NetworkID,
    PortBinding,
    Sandbox,
    SandboxConfig,
    SandboxID,
)

NONE, HOST, CONTAINER, SANDBOX = "none", "host", "container", "sandbox"
OVERLAY = "overlay"
GATEWAY = "docker_gwbridge"  # what is on networks of a swarm alone leaves them by it; the name is Docker's


class WiderNetworks(Protocol):
    """Networks that are not this host's alone: a swarm's."""

    async def attach(self, reference: str) -> None:
        """Make such a network real here, before a container is put on it; any other is left alone."""

    async def gateway(self) -> str:
        """The network by which what is on such ones alone leaves them, made where there is none."""


class NetworkController(Protocol):
    """libnetwork, as containers use it; see docs/architecture.md."""

    async def network(self, name_or_id: str) -> Network:
        """By name, id, or start of one."""

    async def create_sandbox(self, sandbox_id: SandboxID, config: SandboxConfig | None = None) -> Sandbox:
        """A namespace."""

    async def sandbox(self, sandbox_id: SandboxID) -> Sandbox:
        """With its endpoints."""

    async def delete_sandbox(self, sandbox_id: SandboxID) -> Sandbox | None:
        """The one that was, if there was one."""

    async def connect(self, sandbox_id: SandboxID, network: str, config: EndpointConfig | None = None) -> Endpoint:
        """Join."""

    async def disconnect(self, sandbox_id: SandboxID, network: str, force: bool = False) -> None:
        """Leave."""

    async def change_ports(
        self, sandbox_id: SandboxID, add: Sequence[PortBinding], remove: Sequence[PortBinding]
    ) -> Sandbox:
        """Publish and close."""

    async def rename(self, sandbox_id: SandboxID, name: str, dns_names: Mapping[NetworkID, tuple[str, ...]]) -> Sandbox:
        """Call it otherwise."""

    async def hosts(self, sandbox: Sandbox) -> str:
        """/etc/hosts."""

    async def resolv_conf(self, sandbox: Sandbox) -> str:
        """/etc/resolv.conf."""


def kind_of(container: Container) -> str:
    """NONE, HOST, CONTAINER or SANDBOX."""
    mode = container.host.network_mode
    if container.config.network_disabled or mode == "none":
        return NONE
    if mode == "host":
        return HOST
    return CONTAINER if mode.startswith("container:") else SANDBOX


def network_name(mode: str) -> str:
    """The network that a NetworkMode means."""
    return "bridge" if mode in ("", "default", "bridge") else mode


class Networking:
    """Prepares, connects and releases containers' networks."""

    def __init__(
        self,
        controller: NetworkController,
        wider: WiderNetworks,
        registry: Registry,
        config: DaemonConfig,
        events: Events,
    ) -> None:
        self._wider = wider
        self._events = events
        self._controller = controller
        self._registry = registry
        self._config = config

    def directory(self, container: Container) -> Path:
        """Where its files are."""
        return self.directory_of(container.id)

    def directory_of(self, id: str) -> Path:
        """Where the files of the container with this id are, or were."""
        return self._config.data_root / "containers" / id

    def files(self, container: Container) -> tuple[str, str, str]:
        """The paths of its hostname, hosts and resolv.conf; another container's where the network is shared."""
        owner = container
        if kind_of(container) == CONTAINER:
            owner = self._registry.get(container.host.network_mode.partition(":")[2])
        directory = self.directory(owner)
        return str(directory / "hostname"), str(directory / "hosts"), str(directory / "resolv.conf")

    async def prepare(self, container: Container) -> str:
        """The network namespace for the spec: a path, "" for a new one, "host". Raises: Conflict, NotFound."""
        kind = kind_of(container)
        if kind == CONTAINER:
            other = self._registry.get(container.host.network_mode.partition(":")[2])
            if not other.state.running:
                raise Conflict(f"cannot join network namespace of a non running container: {other.name}")
            return f"/proc/{other.state.pid}/ns/net"
        if kind != SANDBOX:
            await asyncio.to_thread(self._write_plain, container, kind)
            return "host" if kind == HOST else ""
        id = SandboxID(container.id)
        config = self._sandbox_config(container)
        sandbox, _ = await asyncio.gather(
            self._controller.create_sandbox(id, config), asyncio.to_thread(self._write_names, container, "", "")
        )
        return sandbox.netns_path

    async def connect(self, container: Container) -> None:
        """Join the networks asked for; fill in the container's addresses, ports and files. Raises: as libnetwork."""
        if kind_of(container) != SANDBOX:
            container.networks = {network_name(container.host.network_mode): EndpointSettings()}
            if kind_of(container) == CONTAINER:
                container.networks = {}
            return
        id = SandboxID(container.id)
        primary = network_name(container.host.network_mode)
        # The primary one too may have been left since, while it did not run.
        names = sorted(container.endpoints, key=lambda name: name != primary)
        endpoints: dict[str, Endpoint] = {}
        for name in names:
            wished = container.endpoints.get(name) or EndpointSettings()
            await self._wider.attach(name)
            if wished.ipam_config or wished.aliases:
                check_wished(await self._controller.network(name), wished)
            endpoints[name] = await self._controller.connect(
                id, name, self._endpoint_config(container, wished, name == primary)
            )
        await self.describe(container, await self._led_out(container))
        self._tell("connect", container, endpoints.values())

    async def _led_out(self, container: Container) -> Sandbox:
        """Its sandbox, on the network that leads out while those it is on do not, and only then."""
        id = SandboxID(container.id)
        sandbox = await self._controller.sandbox(id)
        wider = [e for e in sandbox.endpoints if e.driver == OVERLAY]
        has = sandbox.endpoint(GATEWAY) is not None
        if not wider and not has:
            return sandbox
        closed = [(await self._controller.network(e.network_id)).internal for e in wider]
        others = any(e.way_out for e in sandbox.endpoints if e.network_name != GATEWAY)
        wants = not all(closed) and not others
        if wants == has:
            return sandbox
        if has:
            await self._controller.disconnect(id, GATEWAY, True)
        else:
            config = self._endpoint_config(container, EndpointSettings(), False)
            config = replace(config, dns_names=(), dns_links=())
            await self._controller.connect(id, await self._wider.gateway(), config)
        return await self._controller.sandbox(id)

    def _tell(self, action: str, container: Container, endpoints: Iterable[Endpoint]) -> None:
        """That it joined or left networks, by its start or end."""
        for endpoint in endpoints:
            if endpoint.network_name == GATEWAY and GATEWAY not in container.endpoints:
                continue
            attributes = {"name": endpoint.network_name, "type": endpoint.driver, "container": container.id}
            self._events.publish("network", action, endpoint.network_id, attributes)

    async def describe(self, container: Container, sandbox: Sandbox) -> None:
        """Fill in what `sandbox` says of the container's addresses, ports and files."""
        found = {e.network_name: e for e in sandbox.endpoints}
        container.networks = {}
        for name, endpoint in found.items():
            key = _wished_as(container, endpoint)
            if key is not None:
                # Told of one that has stopped, too: by it Compose knows whether a network is still the same.
                container.endpoints[key] = replace(container.endpoints[key], network_id=endpoint.network_id)
            if name != GATEWAY or name in container.endpoints:
                container.networks[name] = _settings(endpoint, container.endpoints[key] if key is not None else None)
        container.ports = ports.port_map(container.config, container.host, found)
        hosts, resolv = await asyncio.gather(self._controller.hosts(sandbox), self._controller.resolv_conf(sandbox))
        await asyncio.to_thread(self._write_names, container, hosts, resolv)

    async def taken_over(self, container: Container) -> bool:
        """Describe what a start that was cut short has connected; false where that network is no more."""
        if kind_of(container) != SANDBOX:
            await self.connect(container)
            return True
        try:
            await self.describe(container, await self._controller.sandbox(SandboxID(container.id)))
        except NotFound:
            return False
        return True

    async def release(self, container: Container) -> None:
        """Give everything back; again is no error."""
        if kind_of(container) == SANDBOX:
            sandbox = await self._controller.delete_sandbox(SandboxID(container.id))
            if sandbox is not None:
                self._tell("disconnect", container, sandbox.endpoints)

    async def join(self, container: Container, network: str, wished: EndpointSettings) -> None:
        """Connect a running container to one more network. Raises: as libnetwork."""
        id = SandboxID(container.id)
        await self._controller.connect(id, network, self._endpoint_config(container, wished, False))
        try:
            sandbox = await self._led_out(container)
        except BaseException:
            await self._controller.disconnect(id, network, True)
            raise
        await self.describe(container, sandbox)

    async def renamed(self, container: Container) -> None:
        """It has another name: whoever is on a network with it finds it by that from now on. Takes its lock."""
        async with container.lock:  # its end, which takes the sandbox away, comes before or after
            if kind_of(container) != SANDBOX or not container.state.running:
                return
            names = {
                NetworkID(settings.network_id): dns_names(container, _aliases(container, name, settings.network_id))
                for name, settings in container.networks.items()
            }
            sandbox = await self._controller.rename(SandboxID(container.id), container.name, names)
            await self.describe(container, sandbox)

    async def change_ports(
        self, container: Container, add: Sequence[PortBinding], remove: Sequence[PortBinding]
    ) -> None:
        """Publish and close ports of a running container. Raises: as libnetwork."""
        sandbox = await self._controller.change_ports(SandboxID(container.id), add, remove)
        await self.describe(container, sandbox)

    async def leave(self, container: Container, network: str, *, force: bool) -> None:
        """Disconnect a running container. Raises: as libnetwork."""
        id = SandboxID(container.id)
        await self._controller.disconnect(id, network, force)
        await self.describe(container, await self._led_out(container))

    def _sandbox_config(self, container: Container) -> SandboxConfig:
        host, config = container.host, self._config
        return SandboxConfig(
            hostname=_own_hostname(container),
            domainname=container.config.domainname,
            extra_hosts=tuple(parse_extra_host(h) for h in host.extra_hosts or ()),
            dns=host.dns or config.dns,
            dns_search=host.dns_search or config.dns_search,
            dns_options=host.dns_options or config.dns_opts,
        )

    def _endpoint_config(self, container: Container, wished: EndpointSettings, primary: bool) -> EndpointConfig:
        ipam = wished.ipam_config
        mac = wished.mac_address or (container.config.mac_address if primary else "")
        return EndpointConfig(
            name=container.name,
            mac=mac,
            ip=ipam.ipv4_address if ipam else "",
            ip6=ipam.ipv6_address if ipam else "",
            link_local_ips=tuple((ipam.link_local_i_ps if ipam else None) or ()),
            aliases=tuple(wished.aliases or ()),
            dns_names=dns_names(container, wished.aliases or ()),
            dns_links=self._named_links(wished),
            driver_opts=dict(wished.driver_opts or {}),
            gw_priority=wished.gw_priority,
            port_bindings=tuple(ports.bindings(container.config, container.host)),
            exposed_ports=tuple(ports.exposed(container.config, container.host)) if primary else (),
            # On other networks links are names of the embedded DNS, not lines of /etc/hosts.
            links=self._links(container) if primary and network_name(container.host.network_mode) == "bridge" else (),
        )

    def _named_links(self, wished: EndpointSettings) -> tuple[tuple[str, str], ...]:
        """(alias, name) of each link. The other may be called by its id, and need not be there yet."""
        found: list[tuple[str, str]] = []
        for link in wished.links or ():
            name, _, alias = link.partition(":")
            try:
                name = self._registry.get(name).name
            except NotFound:
                name = name.lower()
            found.append((alias or name, name))
        return tuple(found)

    def _links(self, container: Container) -> tuple[tuple[str, str], ...]:
        found: list[tuple[str, str]] = []
        for link in links.of(container, self._registry):
            other = link.other
            bridge = other.networks.get("bridge")
            if bridge is None or not bridge.ip_address:
                name = f"/{container.name}/{link.alias}"
                raise Conflict(f"Cannot link to a non running container: /{other.name} AS {name}")
            names = dict.fromkeys((link.alias, other.hostname, other.name))
            found.append((bridge.ip_address, " ".join(names)))
        return tuple(found)

    def _write_names(self, container: Container, hosts: str, resolv: str) -> None:
        """Write in place: the files may be bind-mounted already, and a new inode would not be seen there."""
        directory = self.directory(container)
        os.makedirs(directory, mode=0o710, exist_ok=True)
        _write(directory / "hostname", _own_hostname(container) + "\n")
        _write(directory / "hosts", hosts)
        _write(directory / "resolv.conf", resolv)

    def _write_plain(self, container: Container, kind: str) -> None:
        extra = "".join(f"{ip}\t{name}\n" for name, ip in map(parse_extra_host, container.host.extra_hosts or ()))
        if kind == HOST:
            hosts, resolv = _read("/etc/hosts"), _read("/etc/resolv.conf")
        else:
            hosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
            resolv = ""
        if container.host.dns or container.host.dns_search or container.host.dns_options:
            lines = [f"nameserver {server}" for server in container.host.dns or ()]
            if container.host.dns_search:
                lines.append("search " + " ".join(container.host.dns_search))
            if container.host.dns_options:
                lines.append("options " + " ".join(container.host.dns_options))
            resolv = "\n".join(lines) + "\n"
        self._write_names(container, hosts + extra, resolv)


def _own_hostname(container: Container) -> str:
    if container.host.uts_mode == "host" or (kind_of(container) == HOST and not container.config.hostname):
        return os.uname().nodename
    return container.hostname


def hostname_of(container: Container) -> str:
    """The host name its processes see and HOSTNAME says."""
    return _own_hostname(container)


def parse_extra_host(text: str) -> tuple[str, str]:
    """(name, address) of `name:address`. Raises: InvalidArgument."""
    name, sign, address = text.partition(":")
    if not sign or not name or not address:
        name, sign, address = text.partition("=")
    if not sign or not name or not address:
        raise InvalidArgument(f'bad format for add-host: "{text}"')
    address = address.strip("[]")
    try:
        if address != HOST_GATEWAY:
            ip_address(address)
    except ValueError:
        raise InvalidArgument(f'invalid IP address in add-host: "{address}"') from None
    return name, address


def check_wished(network: Network, wished: EndpointSettings) -> None:
    """Raises: InvalidArgument, PermissionDenied for what this network cannot give."""
    if network.name in ("host", "none"):
        if network.name == "host":
            raise PermissionDenied("container cannot be disconnected from host network or connected to host network")
        raise PermissionDenied(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode"
        )
    ipam = wished.ipam_config
    for text, version in ((ipam.ipv4_address, 4), (ipam.ipv6_address, 6)) if ipam else ():
        if not text:
            continue
        try:
            address = ip_address(text)
        except ValueError:
            raise InvalidArgument(f"invalid IPv{version} address: {text}") from None
        if address.version != version:
            raise InvalidArgument(f"invalid IPv{version} address: {text}")
        if network.predefined:
            raise InvalidArgument("user specified IP address is supported on user defined networks only")
        if version == 6 and not network.enable_ipv6:
            continue  # Docker takes it and gives none
        if not (network.subnet_given if version == 4 else network.subnet6_given):
            raise InvalidArgument(
                "user specified IP address is supported only when connecting to networks with user configured subnets"
            )
    for text in (ipam.link_local_i_ps or ()) if ipam else ():
        if not _is_link_local(text):
            raise InvalidArgument(f"invalid link-local IP address: {text}")
    if network.predefined and wished.aliases:
        raise InvalidArgument("network-scoped alias is supported only for containers in user defined networks")


def _is_link_local(text: str) -> bool:
    try:
        return ip_address(text).is_link_local
    except ValueError:
        return False


def dns_names(container: Container, aliases: Sequence[str]) -> tuple[str, ...]:
    """What the others on a user-defined network find it by: its name first, then aliases, short id, and host name."""
    names = (container.name, *aliases, container.short_id, container.config.hostname)
    return tuple(dict.fromkeys(filter(None, names)))


def _aliases(container: Container, name: str, network_id: str) -> Sequence[str]:
    wished = container.endpoints.get(name) or container.endpoints.get(network_id)
    return (wished.aliases if wished else None) or ()


def _wished_as(container: Container, endpoint: Endpoint) -> str | None:
    """What that network was called when it was asked for: its name, its id, or the start of that."""
    known = container.endpoints
    for name in (endpoint.network_name, endpoint.network_id):
        if name in known:
            return name
    return next((name for name in known if endpoint.network_id.startswith(name)), None)


def _settings(endpoint: Endpoint, wished: EndpointSettings | None) -> EndpointSettings:
    return EndpointSettings(
        ipam_config=wished.ipam_config if wished else None,
        links=wished.links if wished else None,
        aliases=wished.aliases if wished else None,
        driver_opts=wished.driver_opts if wished else None,
        network_id=endpoint.network_id,
        endpoint_id=endpoint.id,
        gateway=endpoint.gateway,
        ip_address=endpoint.ip,
        ip_prefix_len=endpoint.prefix,
        mac_address=endpoint.mac,
        gw_priority=endpoint.gw_priority,
        ipv6_gateway=endpoint.gateway6,
        global_ipv6_address=endpoint.ip6,
        global_ipv6_prefix_len=endpoint.prefix6,
        dns_names=endpoint.dns_names or None,
    )


def _write(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""

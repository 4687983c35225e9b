"""Networks and a container's places in them. Source: Engine API 1.56, Network."""

# ruff: noqa: RUF009  (wire() declares a field, as dataclasses.field does)

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rorqual.api.codec import wire


@dataclass(frozen=True, slots=True)
class EndpointIPAMConfig:
    """Addresses asked for by the user."""

    ipv4_address: str = wire("IPv4Address", "", omit=True)
    ipv6_address: str = wire("IPv6Address", "", omit=True)
    link_local_i_ps: tuple[str, ...] | None = wire("LinkLocalIPs", None, omit=True)


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """A container's place in a network: what was asked, and what it was given."""

    ipam_config: EndpointIPAMConfig | None = wire("IPAMConfig", None)
    links: tuple[str, ...] | None = wire("Links", None)
    aliases: tuple[str, ...] | None = wire("Aliases", None)
    driver_opts: Mapping[str, str] | None = wire("DriverOpts", None)
    gw_priority: int = wire("GwPriority", 0)
    network_id: str = wire("NetworkID", "")
    endpoint_id: str = wire("EndpointID", "")
    gateway: str = wire("Gateway", "")
    ip_address: str = wire("IPAddress", "")
    mac_address: str = wire("MacAddress", "")
    ip_prefix_len: int = wire("IPPrefixLen", 0)
    ipv6_gateway: str = wire("IPv6Gateway", "")
    global_ipv6_address: str = wire("GlobalIPv6Address", "")
    global_ipv6_prefix_len: int = wire("GlobalIPv6PrefixLen", 0)
    dns_names: tuple[str, ...] | None = wire("DNSNames", None)


@dataclass(frozen=True, slots=True)
class NetworkingConfig:
    """The networks a new container joins, by name or id."""

    endpoints_config: Mapping[str, EndpointSettings | None] = wire("EndpointsConfig", {})


@dataclass(frozen=True, slots=True)
class IPAMConfig:
    """One address pool of a network."""

    subnet: str = wire("Subnet", "", omit=True)
    ip_range: str = wire("IPRange", "", omit=True)
    gateway: str = wire("Gateway", "", omit=True)
    auxiliary_addresses: Mapping[str, str] | None = wire("AuxiliaryAddresses", None, omit=True)


@dataclass(frozen=True, slots=True)
class IPAM:
    """Address management of a network."""

    driver: str = wire("Driver", "")
    options: Mapping[str, str] | None = wire("Options", None)
    config: tuple[IPAMConfig, ...] = wire("Config", ())


@dataclass(frozen=True, slots=True)
class ConfigReference:
    """The network that gives its configuration."""

    network: str = wire("Network", "")


@dataclass(frozen=True, slots=True)
class EndpointResource:
    """A container in a network's inspect answer."""

    name: str = wire("Name", "")
    endpoint_id: str = wire("EndpointID", "")
    mac_address: str = wire("MacAddress", "")
    ipv4_address: str = wire("IPv4Address", "")
    ipv6_address: str = wire("IPv6Address", "")


@dataclass(frozen=True, slots=True)
class NetworkResource:
    """A network, as list and inspect give it."""

    name: str = wire("Name", "")
    id: str = wire("Id", "")
    created: str = wire("Created", "")
    scope: str = wire("Scope", "")
    driver: str = wire("Driver", "")
    enable_ipv4: bool = wire("EnableIPv4", False)
    enable_ipv6: bool = wire("EnableIPv6", False)
    ipam: IPAM = wire("IPAM", IPAM())
    internal: bool = wire("Internal", False)
    attachable: bool = wire("Attachable", False)
    ingress: bool = wire("Ingress", False)
    config_from: ConfigReference = wire("ConfigFrom", ConfigReference())
    config_only: bool = wire("ConfigOnly", False)
    containers: Mapping[str, EndpointResource] = wire("Containers", {})
    options: Mapping[str, str] = wire("Options", {})
    labels: Mapping[str, str] = wire("Labels", {})


@dataclass(frozen=True, slots=True)
class NetworkCreateRequest:
    """Body of POST /networks/create."""

    name: str = wire("Name", "")
    driver: str = wire("Driver", "")
    scope: str = wire("Scope", "")
    internal: bool = wire("Internal", False)
    attachable: bool = wire("Attachable", False)
    ingress: bool = wire("Ingress", False)
    config_only: bool = wire("ConfigOnly", False)
    config_from: ConfigReference | None = wire("ConfigFrom", None)
    ipam: IPAM | None = wire("IPAM", None)
    enable_ipv4: bool | None = wire("EnableIPv4", None)
    enable_ipv6: bool | None = wire("EnableIPv6", None)
    options: Mapping[str, str] = wire("Options", {})
    labels: Mapping[str, str] = wire("Labels", {})


@dataclass(frozen=True, slots=True)
class NetworkCreateResponse:
    """Answer of POST /networks/create."""

    id: str = wire("Id", "")
    warning: str = wire("Warning", "")


@dataclass(frozen=True, slots=True)
class NetworkConnectRequest:
    """Body of POST /networks/{id}/connect."""

    container: str = wire("Container", "")
    endpoint_config: EndpointSettings | None = wire("EndpointConfig", None)


@dataclass(frozen=True, slots=True)
class NetworkDisconnectRequest:
    """Body of POST /networks/{id}/disconnect."""

    container: str = wire("Container", "")
    force: bool = wire("Force", False)


@dataclass(frozen=True, slots=True)
class PruneNetworksResponse:
    """Answer of POST /networks/prune."""

    networks_deleted: tuple[str, ...] = wire("NetworksDeleted", ())

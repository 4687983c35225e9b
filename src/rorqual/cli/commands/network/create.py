"""`rorqual network create`."""

from __future__ import annotations

import ipaddress

from rorqual.cli.command import ONE_ARG, Command, Context
from rorqual.cli.errors import CommandError
from rorqual.cli.options.environment import parse_label
from rorqual.cli.options.limits import to_map

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rorqual.cli.flags import Values

    JSON = dict[str, Any]

_OPTIONAL_BOOLS = {"ipv4": "EnableIPv4", "ipv6": "EnableIPv6"}


def run(context: Context, flags: Values, args: list[str]) -> None:
    body: JSON = {
        "Name": args[0],
        "Driver": flags.string("driver"),
        "Scope": flags.string("scope"),
        "Internal": flags.boolean("internal"),
        "Attachable": flags.boolean("attachable"),
        "Ingress": flags.boolean("ingress"),
        "ConfigOnly": flags.boolean("config-only"),
        "Options": to_map(flags.many("opt")),
        "Labels": to_map(flags.many("label")),
        "IPAM": {
            "Driver": flags.string("ipam-driver"),
            "Options": to_map(flags.many("ipam-opt")),
            "Config": ipam_config(
                flags.many("subnet"), flags.many("ip-range"), flags.many("gateway"), to_map(flags.many("aux-address"))
            ),
        },
    }
    for flag, key in _OPTIONAL_BOOLS.items():
        if flags.changed(flag):
            body[key] = flags.boolean(flag)
    if flags.string("config-from"):
        body["ConfigFrom"] = {"Network": flags.string("config-from")}
    answer = context.client.networks.create(body)
    if answer.get("Warning"):
        context.err(f"WARNING: {answer['Warning']}")
    context.out(answer["Id"])


def ipam_config(subnets: list[str], ranges: list[str], gateways: list[str], auxiliary: dict[str, str]) -> list[JSON]:
    """The API's IPAM configuration: each range, gateway and auxiliary address put to the subnet that contains it.

    Raises: CommandError with Docker's texts.
    """
    if len(subnets) < len(ranges) or len(subnets) < len(gateways):
        raise CommandError("every ip-range or gateway must have a corresponding subnet")
    parsed: list[tuple[Any, JSON]] = []
    for subnet in subnets:
        network = _network(subnet)
        for other, entry in parsed:
            if network.version == other.version and network.overlaps(other):
                raise CommandError(f"multiple overlapping subnet configuration is not supported: {entry['Subnet']}")
        parsed.append((network, {"Subnet": subnet}))
    for text in ranges:
        _put(parsed, _network(text).network_address, "IPRange", text, "multiple ranges")
    for text in gateways:
        _put(parsed, _address(text), "Gateway", text, "multiple gateway")
    for name, text in auxiliary.items():
        address = _address(text)
        for network, entry in parsed:
            if address in network:
                entry.setdefault("AuxiliaryAddresses", {})[name] = text
                break
        else:
            raise CommandError(f"no matching subnet for aux-address {text}")
    return [entry for _, entry in parsed]


def _put(parsed: list[tuple[Any, JSON]], address: Any, key: str, text: str, what: str) -> None:
    kind = "range" if key == "IPRange" else "gateway"
    for network, entry in parsed:
        if address in network:
            if key in entry:
                raise CommandError(
                    f"cannot configure {what} ({text}, {entry[key]}) on the same subnet ({entry['Subnet']})"
                )
            entry[key] = text
            return
    raise CommandError(f"no matching subnet for {kind} {text}")


def _network(text: str) -> Any:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as e:
        raise CommandError(f"invalid CIDR address: {text}") from e


def _address(text: str) -> Any:
    try:
        return ipaddress.ip_address(text)
    except ValueError as e:
        raise CommandError(f"invalid address: {text}") from e


COMMAND = Command(
    "[OPTIONS] NETWORK",
    "Create a network",
    run,
    flags=(
        ("attachable", "", "bool", False, "Enable manual container attachment"),
        ("aux-address", "", "map", (), "Auxiliary IPv4 or IPv6 addresses used by Network driver (default map[])"),
        ("config-from", "", "string", "", "The network from which to copy the configuration"),
        ("config-only", "", "bool", False, "Create a configuration only network"),
        ("driver", "d", "string", "bridge", 'Driver to manage the Network (default "bridge")'),
        ("gateway", "", "strings", (), "IPv4 or IPv6 Gateway for the master subnet"),
        ("ingress", "", "bool", False, "Create swarm routing-mesh network"),
        ("internal", "", "bool", False, "Restrict external access to the network"),
        ("ip-range", "", "strings", (), "Allocate container ip from a sub-range"),
        ("ipam-driver", "", "string", "default", 'IP Address Management Driver (default "default")'),
        ("ipam-opt", "", "map", (), "Set IPAM driver specific options (default map[])"),
        ("ipv4", "", "bool", True, "Enable or disable IPv4 address assignment (default true)"),
        ("ipv6", "", "bool", False, "Enable or disable IPv6 address assignment"),
        ("label", "", "list", (), "Set metadata on a network"),
        ("opt", "o", "map", (), "Set driver specific options (default map[])"),
        ("scope", "", "string", "", "Control the network's scope"),
        ("subnet", "", "strings", (), "Subnet in CIDR format that represents a network segment"),
    ),
    args=ONE_ARG,
    validators={"label": parse_label},
)

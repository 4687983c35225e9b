"""--network (a name, or key=value pairs), --add-host, --dns, --link, --mac-address, and the API's endpoint settings.

Raises: ValueError with Docker's text.
"""

from __future__ import annotations

from rorqual.client import values
from rorqual.client.ports import is_ip

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rorqual.cli.flags import Values

    JSON = dict[str, Any]

_LONG_SYNTAX = r"\w+=\w+(,\w+=\w+)*"
_MAC = r"([0-9a-fA-F]{2}([:-]))(?:[0-9a-fA-F]{2}\2){4}[0-9a-fA-F]{2}|(?:[0-9a-fA-F]{4}\.){2}[0-9a-fA-F]{4}"


def parse_network(text: str) -> JSON:
    """One --network: {"target", "aliases", "links", "ip", "ip6", "mac", "link_local", "driver_opts", "priority"}."""
    out: JSON = {"target": text, "aliases": [], "link_local": [], "driver_opts": {}}
    if "=" not in text:
        return out
    import re

    if not re.search(_LONG_SYNTAX, text):
        return out
    out["target"] = ""
    for field in values.split_csv(text):
        key, equals, value = field.lower().partition("=")
        key, value = key.strip(), value.strip()
        if not equals or not key:
            raise ValueError(f"invalid field {field}")
        if key == "name":
            out["target"] = value
        elif key == "alias":
            out["aliases"].append(value)
        elif key in ("ip", "ip6", "link-local-ip"):
            if not is_ip(value):
                raise ValueError(f"ParseAddr({values.quote(value)}): unable to parse IP")
            if key == "link-local-ip":
                out["link_local"].append(value)
            else:
                out[key] = value
        elif key == "mac-address":
            out["mac"] = value
        elif key == "driver-opt":
            name, inner, setting = value.partition("=")
            if not inner or not name:
                raise ValueError("invalid key value pair format in driver options")
            out["driver_opts"][name.strip()] = setting.strip()
        elif key == "gw-priority":
            try:
                out["priority"] = int(value)
            except ValueError as e:
                raise ValueError(f"invalid gw-priority ({value}): invalid syntax") from e
        else:
            raise ValueError(f"invalid field key {key}")
    if not out["target"]:
        raise ValueError("network name/id is not specified")
    return out


def is_user_defined(mode: str) -> bool:
    return mode not in ("", "default", "bridge", "host", "none") and not mode.startswith("container:")


def endpoints(flags: Values) -> JSON:
    """The API's EndpointsConfig of a container's flags. The first network takes the flags without a network's name."""
    networks: list[JSON] = flags.many("network") or [parse_network("default")]
    implicit = not flags.many("network")
    kinds = {is_user_defined(n["target"]) for n in networks}
    out: JSON = {}
    for index, network in enumerate(networks):
        if index == 0:
            _apply_flags(network, flags)
        endpoint = _endpoint(network)
        target = network["target"]
        if target in out:
            raise ValueError(f"network {values.quote(target)} is specified multiple times")
        if index == 0 and len(networks) == 1 and not implicit and not endpoint:
            continue
        if implicit and not endpoint:
            continue
        out[target] = endpoint
    if len(kinds) > 1:
        raise ValueError("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
    return out


def _apply_flags(network: JSON, flags: Values) -> None:
    aliases, links = flags.many("network-alias"), flags.many("link")
    if network["aliases"] and aliases:
        raise ValueError("conflicting options: cannot specify both --network-alias and per-network alias")
    for flag, key, text in (
        ("ip", "ip", "--ip and per-network IPv4 address"),
        ("ip6", "ip6", "--ip6 and per-network IPv6 address"),
        ("mac-address", "mac", "--mac-address and per-network MAC address"),
    ):
        value = flags.string(flag)
        if value and network.get(key):
            raise ValueError(f"conflicting options: cannot specify both {text}")
        if value:
            network[key] = value
    local = flags.many("link-local-ip")
    if network["link_local"] and local:
        raise ValueError(
            "conflicting options: cannot specify both --link-local-ip and per-network link-local IP addresses"
        )
    network["aliases"] = network["aliases"] or list(aliases)
    network["link_local"] = network["link_local"] or list(local)
    if is_user_defined(network["target"]) and links:
        network["links"] = list(links)


def _endpoint(network: JSON) -> JSON:
    target = network["target"]
    if not target.strip():
        raise ValueError("no name set for network")
    if not is_user_defined(target):
        if network["aliases"]:
            raise ValueError("network-scoped aliases are only supported for user-defined networks")
        if network.get("links"):
            raise ValueError("links are only supported for user-defined networks")
    out: JSON = {}
    if network["aliases"]:
        out["Aliases"] = network["aliases"]
    if network["driver_opts"]:
        out["DriverOpts"] = network["driver_opts"]
    if network.get("links"):
        out["Links"] = network["links"]
    ipam: JSON = {}
    if network.get("ip"):
        ipam["IPv4Address"] = network["ip"]
    if network.get("ip6"):
        ipam["IPv6Address"] = network["ip6"]
    if network["link_local"]:
        ipam["LinkLocalIPs"] = network["link_local"]
    if ipam:
        out["IPAMConfig"] = ipam
    if network.get("mac"):
        out["MacAddress"] = check_mac(network["mac"])
    if network.get("priority"):
        out["GwPriority"] = network["priority"]
    return out


def check_mac(text: str) -> str:
    import re

    if not re.fullmatch(_MAC, text.strip()):
        raise ValueError(f"{text} is not a valid mac address")
    return text


def parse_extra_host(text: str) -> str:
    """`name:ip` or `name=ip` as `name:ip`; `host-gateway` for the address."""
    name, separator, address = text.partition("=") if "=" in text else text.partition(":")
    if not separator or not name:
        raise ValueError(f"bad format for add-host: {values.quote(text)}")
    address = address.removeprefix("[").removesuffix("]") if address[:1] == "[" else address
    if address != "host-gateway" and not is_ip(address):
        raise ValueError(f"invalid IP address in add-host: {values.quote(address)}")
    return f"{name}:{address}"


def parse_ip(text: str) -> str:
    value = text.strip()
    if not is_ip(value):
        raise ValueError(f"IP address is not correctly formatted: {text}")
    return value


def parse_dns_search(text: str) -> str:
    value = text.strip()
    if value == ".":
        return value
    import re

    labels = value.removesuffix(".").split(".")
    if len(value) > 255 or not re.search(r"[a-zA-Z]", value) or not all(_is_label(label) for label in labels):
        raise ValueError(f"{value} is not a valid domain")
    return value.removesuffix(".")


def _is_label(text: str) -> bool:
    import re

    return bool(re.fullmatch(r"[a-zA-Z0-9_](?:[a-zA-Z0-9_-]*[a-zA-Z0-9_])?", text)) and len(text) <= 63


def parse_link(text: str) -> str:
    parts = text.split(":")
    if not text or len(parts) > 2:
        raise ValueError(f"bad format for links: {text}" if text else "empty string specified for links")
    return text


def parse_attach(text: str) -> str:
    value = text.lower()
    if value not in ("stdin", "stdout", "stderr"):
        raise ValueError("valid streams are STDIN, STDOUT and STDERR")
    return value


def parse_gpus(text: str) -> JSON:
    """--gpus as the API's DeviceRequest."""
    request: JSON = {}
    seen: set[str] = set()
    for field in values.split_csv(text):
        key, has_value, value = field.partition("=")
        if key in seen:
            raise ValueError(f"gpu request key '{key}' can be specified only once")
        seen.add(key)
        if not has_value:
            seen.add("count")
            request["Count"] = _count(key)
        elif key == "driver":
            request["Driver"] = value
        elif key == "count":
            request["Count"] = _count(value)
        elif key == "device":
            request["DeviceIDs"] = value.split(",")
        elif key == "capabilities":
            request["Capabilities"] = [[*value.split(","), "gpu"]]
        elif key == "options":
            request["Options"] = {k: v for k, _, v in (o.partition("=") for o in values.split_csv(value))}
        else:
            raise ValueError(f"unexpected key '{key}' in '{field}'")
    if "count" not in seen and "DeviceIDs" not in request:
        request["Count"] = 1
    request.setdefault("Options", {})
    request.setdefault("Capabilities", [["gpu"]])
    return request


def _count(text: str) -> int:
    if text == "all":
        return -1
    try:
        return int(text)
    except ValueError as e:
        raise ValueError(f'invalid count ({text}): value must be either "all" or an integer: invalid syntax') from e

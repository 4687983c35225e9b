"""`rorqual network connect`."""

from __future__ import annotations

from rorqual.cli.command import TWO_ARGS, Command, Context
from rorqual.cli.options.limits import to_map
from rorqual.cli.options.networks import parse_ip, parse_link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    ipam: dict[str, Any] = {}
    if flags.string("ip"):
        ipam["IPv4Address"] = flags.string("ip")
    if flags.string("ip6"):
        ipam["IPv6Address"] = flags.string("ip6")
    if flags.many("link-local-ip"):
        ipam["LinkLocalIPs"] = flags.many("link-local-ip")
    endpoint = {
        "IPAMConfig": ipam,
        "Links": flags.many("link") or None,
        "Aliases": flags.many("alias") or None,
        "DriverOpts": to_map(flags.many("driver-opt")) or None,
        "GwPriority": flags.integer("gw-priority"),
    }
    context.client.networks.connect(args[0], args[1], endpoint)


COMMAND = Command(
    "[OPTIONS] NETWORK CONTAINER",
    "Connect a container to a network",
    run,
    flags=(
        ("alias", "", "strings", (), "Add network-scoped alias for the container"),
        ("driver-opt", "", "strings", (), "driver options for the network"),
        (
            "gw-priority",
            "",
            "int",
            0,
            "Highest gw-priority provides the default gateway. Accepts positive and negative values.",
        ),
        ("ip", "", "string", "", 'IPv4 address (e.g., "172.30.100.104")'),
        ("ip6", "", "string", "", 'IPv6 address (e.g., "2001:db8::33")'),
        ("link", "", "list", (), "Add link to another container"),
        ("link-local-ip", "", "strings", (), "Add a link-local address for the container"),
    ),
    args=TWO_ARGS,
    validators={"link": parse_link, "ip": parse_ip, "ip6": parse_ip},
)

"""`rorqual swarm init`."""

from __future__ import annotations

from rorqual import errdefs
from rorqual.cli.command import Command, Context
from rorqual.cli.commands.swarm import settings
from rorqual.cli.errors import CommandError
from rorqual.cli.render import error_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values

_NO_ADDRESS = ("could not choose an IP address to advertise", "could not find the system's IP address")


def run(context: Context, flags: Values, args: list[str]) -> None:
    availability = flags.string("availability")
    if availability not in ("active", "pause", "drain"):
        raise CommandError(f'invalid availability "{availability}", only active, pause and drain are supported')
    request = {
        "ListenAddr": flags.string("listen-addr"),
        "AdvertiseAddr": flags.string("advertise-addr"),
        "DataPathAddr": flags.string("data-path-addr"),
        "DataPathPort": flags.integer("data-path-port"),
        "ForceNewCluster": flags.boolean("force-new-cluster"),
        "Spec": settings.changed({"Labels": None}, flags),
        "Availability": availability,
        "DefaultAddrPool": flags.many("default-addr-pool") or None,
        "SubnetSize": flags.integer("default-addr-pool-mask-length") if flags.many("default-addr-pool") else 0,
    }
    swarm = context.client.swarm
    try:
        node_id = swarm.init(request)
    except errdefs.Error as e:
        if any(text in str(e) for text in _NO_ADDRESS):
            raise CommandError(f"{error_text(e)} - specify one with --advertise-addr") from None
        raise
    context.out(f"Swarm initialized: current node ({node_id}) is now a manager.\n")
    settings.say_join(context, "worker")
    context.out("To add a manager to this swarm, run 'docker swarm join-token manager' and follow the instructions.\n")
    if flags.boolean("autolock"):
        settings.say_unlock(context, swarm.unlock_key())


COMMAND = Command(
    "[OPTIONS]",
    "Initialize a swarm",
    run,
    flags=(
        ("advertise-addr", "", "string", "", 'Advertised address (format: "<ip|interface>[:port]")'),
        (
            "autolock",
            "",
            "bool",
            False,
            "Enable manager autolocking (requiring an unlock key to start a stopped manager)",
        ),
        (
            "availability",
            "",
            "string",
            "active",
            'Availability of the node ("active", "pause", "drain") (default "active")',
        ),
        (
            "data-path-addr",
            "",
            "string",
            "",
            'Address or interface to use for data path traffic (format: "<ip|interface>")',
        ),
        (
            "data-path-port",
            "",
            "uint32",
            0,
            "Port number to use for data path traffic (1024 - 49151). If no value is set or is set to 0, the default "
            "port (4789) is used.",
        ),
        ("default-addr-pool", "", "ipNetSlice", (), "default address pool in CIDR format (default [])"),
        (
            "default-addr-pool-mask-length",
            "",
            "uint32",
            24,
            "default address pool subnet mask length (default 24)",
        ),
        ("force-new-cluster", "", "bool", False, "Force create a new cluster from current state"),
        (
            "listen-addr",
            "",
            "node-addr",
            "0.0.0.0:2377",
            'Listen address (format: "<ip|interface>[:port]") (default 0.0.0.0:2377)',
        ),
        *settings.FLAGS,
    ),
)

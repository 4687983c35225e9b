"""`rorqual node inspect`."""

from __future__ import annotations

from rorqual.cli import inspection, units
from rorqual.cli.command import AT_LEAST_ONE, Command, Context
from rorqual.cli.commands.network.ls import created_at
from rorqual.cli.errors import CommandError
from rorqual.cli.formats import INSPECT_FORMAT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rorqual.cli.flags import Values

    JSON = dict[str, Any]


def run(context: Context, flags: Values, args: list[str]) -> int:
    nodes = context.client.nodes
    format = flags.string("format")
    if flags.boolean("pretty"):
        if format:
            raise CommandError("--format is incompatible with human friendly format")
        context.out("\n\n".join(_pretty(nodes.inspect(resolved(context, name))) for name in args))
        return 0
    return inspection.inspect(args, lambda name: nodes.inspect_raw(resolved(context, name)), format)


def resolved(context: Context, name: str) -> str:
    """The id that `self` stands for, any other name as it is. Raises: CommandError on an engine outside a swarm."""
    if name != "self":
        return name
    swarm = context.client.system.info().get("Swarm") or {}
    if not swarm.get("NodeID"):
        if not swarm.get("ControlAvailable"):
            context.client.nodes.list()  # says why not
        raise CommandError("node ID not found in /info")
    return str(swarm["NodeID"])


def _pretty(node: JSON) -> str:
    spec, description, status = node["Spec"], node["Description"], node["Status"]
    platform, resources, engine = (description.get(key) or {} for key in ("Platform", "Resources", "Engine"))
    lines = [f"ID:\t\t\t{node['ID']}"]
    if spec.get("Name"):
        lines.append(f"Name:\t\t\t{spec['Name']}")
    if labels := spec.get("Labels"):
        lines += ["Labels:", *(f" - {key}={value}" if value else f" - {key}" for key, value in sorted(labels.items()))]
    lines += [
        f"Hostname:              \t{description.get('Hostname', '')}",
        f"Joined at:             \t{created_at(node['CreatedAt']).lower()}",
        "Status:",
        f" State:\t\t\t{status.get('State', '').capitalize()}",
    ]
    if status.get("Message"):
        lines.append(f" Message:              \t{status['Message'].capitalize()}")
    lines += [
        f" Availability:         \t{spec.get('Availability', '').capitalize()}",
        f" Address:\t\t{status.get('Addr', '')}",
    ]
    if manager := node.get("ManagerStatus"):
        lines += [
            "Manager Status:",
            f" Address:\t\t{manager.get('Addr', '')}",
            f" Raft Status:\t\t{manager.get('Reachability', '').capitalize()}",
            f" Leader:\t\t{'Yes' if manager.get('Leader') else 'No'}",
        ]
    lines += [
        "Platform:",
        f" Operating System:\t{platform.get('OS', '')}",
        f" Architecture:\t\t{platform.get('Architecture', '')}",
        "Resources:",
        f" CPUs:\t\t\t{resources.get('NanoCPUs', 0) // 1_000_000_000}",
        f" Memory:\t\t{units.bytes_size(resources.get('MemoryBytes', 0))}",
    ]
    plugins: dict[str, list[str]] = {}
    for plugin in engine.get("Plugins") or ():
        plugins.setdefault(plugin["Type"], []).append(plugin["Name"])
    if plugins:
        lines += ["Plugins:", *(f" {kind}:\t\t{', '.join(names)}" for kind, names in sorted(plugins.items()))]
    lines.append(f"Engine Version:\t\t{engine.get('EngineVersion', '')}")
    if labels := engine.get("Labels"):
        lines += ["Engine Labels:", *(f" - {key}={value}" for key, value in sorted(labels.items()))]
    if (tls := description.get("TLSInfo")) and tls.get("TrustRoot"):
        lines += [
            "TLS Info:",
            " TrustRoot:",
            tls["TrustRoot"],
            f" Issuer Subject:\t{tls.get('CertIssuerSubject', '')}",
            f" Issuer Public Key:\t{tls.get('CertIssuerPublicKey', '')}",
        ]
    return "\n".join(lines)


COMMAND = Command(
    "[OPTIONS] self|NODE [NODE...]",
    "Display detailed information on one or more nodes",
    run,
    flags=(INSPECT_FORMAT, ("pretty", "", "bool", False, "Print the information in a human friendly format")),
    args=AT_LEAST_ONE,
)

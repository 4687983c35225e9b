"""`rorqual node ls`."""

from __future__ import annotations

from rorqual.cli.command import Command, Context
from rorqual.cli.commands.network.ls import natural
from rorqual.cli.formats import LIST_FORMAT
from rorqual.cli.table import Listing
from rorqual.client import values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rorqual.cli.flags import Values

_HEADERS = {
    "ID": "ID",
    "Hostname": "HOSTNAME",
    "Status": "STATUS",
    "Availability": "AVAILABILITY",
    "ManagerStatus": "MANAGER STATUS",
    "EngineVersion": "ENGINE VERSION",
    "TLSStatus": "TLS STATUS",
    "Self": "SELF",
}
_COLUMNS = ("ID", "Hostname", "Status", "Availability", "ManagerStatus", "EngineVersion")
_JSON_FIELDS = ("Availability", "EngineVersion", "Hostname", "ID", "ManagerStatus", "Self", "Status", "TLSStatus")


def run(context: Context, flags: Values, args: list[str]) -> None:
    nodes = context.client.nodes.list(values.merge_filters(flags.many("filter")))
    format, quiet = flags.string("format"), flags.boolean("quiet")
    if not format and not quiet:
        format = context.config.text("nodesFormat")
    nodes.sort(key=lambda n: natural(n["Description"].get("Hostname", "")))
    if quiet and format in ("", "table"):
        for node in nodes:
            context.out(node["ID"])
        return
    info = context.client.system.info() if nodes else {}
    swarm = info.get("Swarm") or {}
    own = swarm.get("NodeID", "")
    root = (((swarm.get("Cluster") or {}).get("TLSInfo")) or {}).get("TrustRoot", "")
    plain = format in ("", "table")

    def field(node: Any, name: str) -> object:
        if name == "ID":
            mark = (" *" if node["ID"] == own else "  ") if plain else ""
            return node["ID"] + mark
        if name == "Self":
            return node["ID"] == own
        if name == "Hostname":
            return node["Description"].get("Hostname", "")
        if name == "Status":
            return node["Status"].get("State", "").capitalize()
        if name == "Availability":
            return node["Spec"].get("Availability", "").capitalize()
        if name == "ManagerStatus":
            status = node.get("ManagerStatus")
            if not status:
                return ""
            return "Leader" if status.get("Leader") else status.get("Reachability", "").capitalize()
        if name == "EngineVersion":
            return node["Description"]["Engine"].get("EngineVersion", "")
        if name == "TLSStatus":
            trusted = node["Description"]["TLSInfo"].get("TrustRoot", "")
            if not trusted or not root:
                return "Unknown"
            return "Ready" if trusted == root else "Needs Rotation"
        raise KeyError(name)

    Listing("*node.nodeContext", _HEADERS, _COLUMNS, field, _JSON_FIELDS).write(nodes, format)


COMMAND = Command(
    "[OPTIONS]",
    "List nodes in the swarm",
    run,
    flags=(
        ("filter", "f", "filter", (), "Filter output based on conditions provided"),
        LIST_FORMAT,
        ("quiet", "q", "bool", False, "Only display IDs"),
    ),
    aliases="node ls, node list",
)

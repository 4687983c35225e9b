"""`rorqual node update`, and what `promote` and `demote` do."""

from __future__ import annotations

from rorqual.cli.command import ONE_ARG, Command, Context
from rorqual.cli.errors import CommandError
from rorqual.cli.options.environment import parse_label
from rorqual.cli.options.limits import to_map

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    nodes = context.client.nodes
    node = nodes.inspect(args[0])
    spec = node["Spec"]
    if flags.changed("role"):
        spec["Role"] = flags.string("role")
    if flags.changed("availability"):
        spec["Availability"] = flags.string("availability")
    labels = dict(spec.get("Labels") or {}) | to_map(flags.many("label-add"))
    for key in flags.many("label-rm"):
        if key not in labels:
            raise CommandError(f"key {key} doesn't exist in node's labels")
        del labels[key]
    spec["Labels"] = labels
    nodes.update(node["ID"], node["Version"]["Index"], spec)
    context.out(args[0])


def change_role(context: Context, names: list[str], role: str) -> None:
    """Make each of them a `role`, and say so."""
    nodes = context.client.nodes
    for name in names:
        node = nodes.inspect(name)
        if node["Spec"].get("Role") == role:
            context.out(f"Node {node['ID']} is already a {role}.")
            continue
        nodes.update(node["ID"], node["Version"]["Index"], node["Spec"] | {"Role": role})
        if role == "manager":
            context.out(f"Node {name} promoted to a manager in the swarm.")
        else:
            context.out(f"Manager {name} demoted in the swarm.")


COMMAND = Command(
    "[OPTIONS] NODE",
    "Update a node",
    run,
    flags=(
        ("availability", "", "string", "", 'Availability of the node ("active", "pause", "drain")'),
        ("label-add", "", "list", (), 'Add or update a node label ("key=value")'),
        ("label-rm", "", "list", (), "Remove a node label if exists"),
        ("role", "", "string", "", 'Role of the node ("worker", "manager")'),
    ),
    args=ONE_ARG,
    validators={"label-add": parse_label},
)

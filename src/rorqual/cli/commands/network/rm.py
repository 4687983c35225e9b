"""`rorqual network rm`."""

from __future__ import annotations

from rorqual import errdefs
from rorqual.cli.command import AT_LEAST_ONE, Command, Context, confirm
from rorqual.cli.render import error_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


_QUESTION = (
    "WARNING! Before removing the routing-mesh network, make sure all the nodes in your swarm run the same docker "
    "engine version. Otherwise, removal may not be effective and functionality of newly create ingress networks will "
    "be impaired.\nAre you sure you want to continue?"
)


def _is_ingress(context: Context, name: str) -> bool:
    try:
        return bool(context.client.networks.inspect(name).get("Ingress"))
    except errdefs.Error:
        return False  # removing it says what is wrong


def run(context: Context, flags: Values, args: list[str]) -> int:
    code = 0
    for name in args:
        try:
            if _is_ingress(context, name) and not confirm(context, _QUESTION):
                continue
            context.client.networks.remove(name)
        except errdefs.NotFound as e:
            if flags.boolean("force"):
                continue
            context.err(error_text(e))
            code = 1
        except errdefs.Error as e:
            context.err(error_text(e))
            code = 1
        else:
            context.out(name)
    return code


COMMAND = Command(
    "NETWORK [NETWORK...]",
    "Remove one or more networks",
    run,
    flags=(("force", "f", "bool", False, "Do not error if the network does not exist"),),
    args=AT_LEAST_ONE,
    aliases="network rm, network remove",
)

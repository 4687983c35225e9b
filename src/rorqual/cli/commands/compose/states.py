"""What start, stop, restart, kill, pause and unpause share."""

from __future__ import annotations

from collections.abc import Callable

from rorqual import errdefs
from rorqual.cli.command import Context
from rorqual.cli.commands.compose import loading
from rorqual.client import Client
from rorqual.compose import observe
from rorqual.compose.observe import Seen
from rorqual.compose.parallel import each


def change(
    context: Context,
    services: list[str],
    doing: str,
    done: str,
    act: Callable[[Client, Seen], object],
    which: Callable[[Seen], bool],
) -> None:
    """`act` on the services' containers for which `which` says so, all at once. Raises: NotFound; what `act` raises."""
    of = loading.known(context)
    loading.check_services(of, services)
    found = [seen for seen in observe.everything(context.client, of.name, services=services) if which(seen)]
    with loading.progress(context, doing) as shown:

        def one(seen: Seen) -> None:
            shown("Container", seen.name, doing)
            try:
                act(context.connect(context), seen)
            except errdefs.Error:
                shown("Container", seen.name, "Error")
                raise
            shown("Container", seen.name, done)

        each(found, one, most=loading.options(context).most)

"""`rorqual top`."""

from __future__ import annotations

import sys

from rorqual.cli.command import AT_LEAST_ONE, Command, Context
from rorqual.cli.table import align

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    answer = context.client.containers.top(args[0], " ".join(args[1:]))
    rows = [answer["Titles"], *(answer.get("Processes") or [])]
    # Docker's writer here has a minimum width of 20; each cell ends with a tab.
    widths = [max(20, 3 + max(len(r[i]) for r in rows)) for i in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        sys.stdout.write("".join(cells) + align(row[-1]) + "\n")


COMMAND = Command(
    "CONTAINER [ps OPTIONS]",
    "Display the running processes of a container",
    run,
    args=AT_LEAST_ONE,
    aliases="container top, top",
    interspersed=False,
)

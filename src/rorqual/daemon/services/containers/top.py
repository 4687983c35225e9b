"""What of ps's output belongs to a container. Pure. Source: Engine API 1.56, ContainerTop; rules as dockerd's."""

from __future__ import annotations

import re
from collections.abc import Container

from rorqual.api.container import TopResponse
from rorqual.errdefs import InvalidArgument

# `-o user=PID` would show another column under the title that is looked for.
_RENAMED = re.compile(r"\s+([^\s]*)=\s*(PID[^\s]*)", re.ASCII)


def check(ps_args: str) -> None:
    """Raises: InvalidArgument for a column that is called PID and is none."""
    for column, title in _RENAMED.findall(ps_args):
        if column != "pid":
            raise InvalidArgument(f'specifying "{column}={title}" is not allowed')


def select(output: str, pids: Container[str]) -> TopResponse:
    """The titles, and the lines of these processes with those of their threads, which ps gives the PID `-`.

    Raises: InvalidArgument when there is no column PID.
    """
    lines = output.splitlines()
    titles = tuple(lines[0].split()) if lines else ()
    if "PID" not in titles:
        raise InvalidArgument("Couldn't find PID field in ps output")
    column = titles.index("PID")
    shown: list[tuple[str, ...]] = []
    ours = False
    for line in lines[1:]:
        # Only as many columns as titles: the last, a command, may hold blanks.
        row = tuple(line.split(None, len(titles) - 1))
        if len(row) <= column:
            continue
        if row[column] != "-":
            ours = row[column] in pids
        if ours:
            shown.append(row)
    return TopResponse(titles, tuple(shown))

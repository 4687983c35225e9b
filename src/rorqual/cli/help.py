"""`rorqual --help` and `rorqual GROUP --help`."""

from __future__ import annotations

from rorqual.cli import registry
from rorqual.cli.command import PROGRAM
from rorqual.cli.flags import usages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rorqual.cli.flags import Flag


def _listing(rows: Sequence[tuple[str, str]]) -> str:
    width = max(11, *(len(name) for name, _ in rows))
    return "".join(f"  {name.ljust(width)} {line}\n" for name, line in rows)


def root_help(flags: Sequence[Flag], columns: int) -> str:
    """The overview of all commands, in Docker's layout."""
    common = [(name, line) for name, (_, line) in registry.COMMON.items()]
    groups = [(name, line) for name, (line, _) in registry.GROUPS.items()]
    others = sorted((name, line) for name, (_, line) in registry.OTHERS.items())
    return (
        f"Usage:  {PROGRAM} [OPTIONS] COMMAND\n\n"
        "A container platform in Python\n\n"
        f"Common Commands:\n{_listing(common)}\n"
        f"Management Commands:\n{_listing(groups)}\n"
        f"Commands:\n{_listing(others)}\n"
        f"Global Options:\n{usages(flags, columns)}\n"
        f"Run '{PROGRAM} COMMAND --help' for more information on a command.\n"
    )


def group_help(group: str) -> str:
    line, verbs = registry.GROUPS[group]
    rows = [(name, text) for name, (_, text) in verbs.items()]
    usage, options = f"{PROGRAM} {group} COMMAND", ""
    if module := registry.GROUP_FLAGS.get(group):
        flags = __import__(f"rorqual.cli.commands.{module}", fromlist=["FLAGS"]).FLAGS
        usage, options = f"{PROGRAM} {group} [OPTIONS] COMMAND", f"Options:\n{usages(flags, 80)}\n"
    return (
        f"Usage:  {usage}\n\n{line}\n\n{options}Commands:\n{_listing(rows)}\n"
        f"Run '{PROGRAM} {group} COMMAND --help' for more information on a command.\n"
    )

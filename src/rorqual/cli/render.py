"""Texts of errors, and of help and usage."""

from __future__ import annotations

from rorqual.cli.command import PROGRAM
from rorqual.client.errors import ResponseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.command import Command


def error_text(error: BaseException) -> str:
    """What the user reads; the engine's own words are marked as such."""
    if isinstance(error, ResponseError):
        return f"Error response from daemon: {error}"
    return str(error)


def usage_line(path: str, command: Command) -> str:
    return f"Usage:  {path}{' ' + command.usage if command.usage else ''}"


def flag_error(path: str, usage: str, message: str) -> str:
    return f"{message}\n\nUsage:  {path}{' ' + usage if usage else ''}\n\nRun '{path} --help' for more information"


def args_error(path: str, command: Command, message: str) -> str:
    # Docker's texts differ in one word for "requires at least".
    verb = "See" if command.args[1] is None else "Run"
    return f"{PROGRAM}: {message}\n\n{usage_line(path, command)}\n\n{verb} '{path} --help' for more information"


def command_help(path: str, command: Command, columns: int) -> str:
    from rorqual.cli.flags import usages

    parts = [usage_line(path, command), command.doc]
    if command.aliases:
        names = [f"{PROGRAM} {alias}" for alias in command.aliases.split(", ")]
        parts.append("Aliases:\n  " + ", ".join(names))
    text = "\n\n".join(parts) + "\n"
    # --help itself is listed only where -h is a flag of its own, as cobra does it for Docker's run and create.
    flags = list(command.flags)
    if any(flag[1] == "h" for flag in flags):
        flags.append(("help", "", "bool", False, "Print usage"))
    if options := usages(flags, columns):
        text += f"\nOptions:\n{options}"
    return text

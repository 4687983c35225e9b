"""How a command ends early. `main` maps each to what is written and to the exit code, there and nowhere else."""

from __future__ import annotations

from rorqual import errdefs


class UsageError(errdefs.InvalidArgument):
    """The arguments do not fit the command (wrong number): exit code 1, with the usage line."""


class FlagError(errdefs.InvalidArgument):
    """A flag is unknown or its value unreadable: exit code 125, with the usage line."""


class HelpWanted(Exception):
    """--help was given, or the command has nothing to do without flags."""


class Exit(Exception):
    """End with `code`, after writing `message` (when it is not empty) to stderr as it is."""

    def __init__(self, code: int, message: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class CommandError(errdefs.InvalidArgument):
    """What the user asked for cannot be done: exit code 1, the text alone."""

"""What a command is, and the context it runs in.

A module commands/<group>/<verb>.py defines `COMMAND`; registry.py names them; main.py imports only the chosen one.
"""

from __future__ import annotations

import os
import sys

from rorqual.cli.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from rorqual.cli.config import Config
    from rorqual.cli.contexts import Store
    from rorqual.cli.flags import Flag, Validator, Values
    from rorqual.client import Client

PROGRAM = "rorqual"

# Bounds on the number of arguments: (least, most); None is no bound.
NO_ARGS = (0, 0)
ONE_ARG = (1, 1)
TWO_ARGS = (2, 2)
AT_LEAST_ONE = (1, None)
AT_LEAST_TWO = (2, None)
AT_MOST_ONE = (0, 1)
ANY_ARGS = (0, None)


class Command:
    """A command's declaration. `run(context, flags, arguments)` returns the exit code (None is 0).

    `usage` is what follows the command's name in the usage line; `doc` the lines below it.
    """

    __slots__ = ("aliases", "args", "doc", "flags", "interspersed", "raw", "renamed", "run", "usage", "validators")

    def __init__(
        self,
        usage: str,
        doc: str,
        run: Callable[[Context, Values, list[str]], int | None],
        *,
        flags: Sequence[Flag] = (),
        args: tuple[int, int | None] = NO_ARGS,
        aliases: str = "",
        validators: Mapping[str, Validator] | None = None,
        renamed: Mapping[str, str] | None = None,
        interspersed: bool = True,
        raw: bool = False,
    ) -> None:
        self.usage = usage
        self.doc = doc
        self.run = run
        self.flags = flags
        self.args = args
        self.aliases = aliases
        self.validators = validators
        self.renamed = renamed
        self.interspersed = interspersed
        self.raw = raw

    def check_args(self, path: str, count: int) -> None:
        """Raises: UsageError when `count` arguments are too few or too many."""
        least, most = self.args
        if count >= least and (most is None or count <= most):
            return
        if most == 0:
            raise UsageError(f"'{path}' accepts no arguments")
        if least == most:
            raise UsageError(f"'{path}' requires {least} argument{'' if least == 1 else 's'}")
        if most is None:
            raise UsageError(f"'{path}' requires at least {least} argument{'' if least == 1 else 's'}")
        if least == 0:
            raise UsageError(f"'{path}' requires at most {most} argument{'' if most == 1 else 's'}")
        raise UsageError(f"'{path}' requires at least {least} and at most {most} arguments")


class Context:
    """What a command gets: the engine (connected on first use), the config file, the streams.

    `path` is the command as typed ("rorqual container ls"), `chosen` the context that --context names, `group` the
    flags of a group that has some (compose).
    """

    __slots__ = ("_client", "_config", "chosen", "config_dir", "connect", "debug", "group", "path")

    def __init__(
        self, connect: Callable[[Context], Client], config_dir: str, *, debug: bool = False, chosen: str = ""
    ) -> None:
        self.connect = connect
        self.config_dir = config_dir
        self.debug = debug
        self.chosen = chosen
        self.group: Values | None = None
        self.path = PROGRAM
        self._client: Client | None = None
        self._config: Config | None = None

    @property
    def client(self) -> Client:
        if self._client is None:
            self._client = self.connect(self)
        return self._client

    @property
    def config(self) -> Config:
        if self._config is None:
            from rorqual.cli.config import Config

            self._config = Config.load(self.config_dir)
        return self._config

    @property
    def contexts(self) -> Store:
        """The store of contexts."""
        from rorqual.cli.contexts import Store

        return Store(self.config, self.chosen)

    def out(self, text: str) -> None:
        """Write a line to stdout."""
        sys.stdout.write(text + "\n")

    def err(self, text: str) -> None:
        """Write a line to stderr, after what stdout still holds."""
        sys.stdout.flush()
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def each(self, names: Sequence[str], action: Callable[[str], Any], *, echo: bool = True) -> int:
        """Do `action` for each name; print those that succeed, the errors of the others; 1 when any failed."""
        from rorqual import errdefs
        from rorqual.cli.render import error_text

        code = 0
        for name in names:
            try:
                action(name)
            except errdefs.Error as e:
                self.err(error_text(e))
                code = 1
            else:
                if echo:
                    self.out(name)
        return code


def confirm(context: Context, question: str) -> bool:
    """Ask on the terminal; yes is "y" or "yes", anything else (and the end of input) no."""
    sys.stdout.write(question + " [y/N] ")
    sys.stdout.flush()
    try:
        answer = sys.stdin.readline()
    except (OSError, ValueError):
        return False
    if not answer:
        context.out("")
    return answer.strip().lower() in ("y", "yes")


def help_columns(fd: int = 1) -> int:
    """Where lines of --help are wrapped, as Docker does: one short of the terminal's width, 80 when `fd` is none."""
    try:
        return (os.get_terminal_size(fd).columns or 80) - 1
    except OSError:
        return 79

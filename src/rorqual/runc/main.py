"""`rorqual-runc`: the runtime behind runc's command line, so that any engine can use it.

This module imports little: the interpreter is started a second time, sealed, before anything that enters containers.
"""

from __future__ import annotations

import gc
import os
import sys

from rorqual.linux.sealed import reexec_sealed
from rorqual.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.runc.commands.context import Context
    from rorqual.runc.commands.parser import Option

# Commands whose process is, for a moment, inside a container.
_ENTERING = frozenset({"create", "run", "exec", "restore"})

# name -> (module below commands, function, its options)
_COMMANDS: dict[str, tuple[str, str, str]] = {
    "checkpoint": ("checkpoint", "refuse", ""),
    "create": ("run", "create", "CREATE_OPTIONS"),
    "delete": ("lifecycle", "delete", "DELETE_OPTIONS"),
    "events": ("events", "run", "OPTIONS"),
    "exec": ("exec", "run", "OPTIONS"),
    "features": ("features", "run", ""),
    "kill": ("lifecycle", "kill", "KILL_OPTIONS"),
    "list": ("show", "list_containers", "LIST_OPTIONS"),
    "pause": ("lifecycle", "pause", ""),
    "ps": ("show", "ps", "PS_OPTIONS"),
    "restore": ("checkpoint", "refuse", ""),
    "resume": ("lifecycle", "resume", ""),
    "run": ("run", "run", "RUN_OPTIONS"),
    "spec": ("spec", "run", "OPTIONS"),
    "start": ("lifecycle", "start", ""),
    "state": ("show", "state", ""),
    "update": ("update", "run", "OPTIONS"),
}
# Texts that engines match on begin with the name of the step that failed.
_PREFIXES = {"create": "runc create failed: ", "run": "runc run failed: ", "exec": "exec failed: "}
_SPEC_VERSION = "1.2.0"


def main() -> None:
    """Does not return."""
    if not _ENTERING.isdisjoint(sys.argv):
        # Without site (-S) and the caller's PYTHON* variables (-I): a third of the interpreter's start.
        again = [b"-I", b"-S", os.fsencode(__file__.removesuffix("main.py") + "__main__.py")]
        reexec_sealed(arguments=[*again, *map(os.fsencode, sys.argv[1:])])
    gc.disable()  # a command ends before collecting would pay
    status = _main(sys.argv[1:])
    try:
        sys.stdout.flush()
    finally:
        os._exit(status)  # nothing is left to be torn down, so that the interpreter's end is not waited for


def _main(arguments: list[str]) -> int:
    from rorqual.errdefs import Error
    from rorqual.runc.commands.context import Context

    context = Context(_default_root())
    name = ""
    try:
        context, name, rest = _globals(arguments)
        return _dispatch(name, rest, context)
    except (Error, OSError) as e:
        text = _PREFIXES.get(name, "") + _text(e)
        context.report("error", text)
        if context.log:
            sys.stderr.write(text + "\n")
        return 255 if name == "exec" else 1


def _text(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{os.fsdecode(error.filename)}: {error.strerror}" if error.filename else str(error.strerror or error)
    return str(error)


def _globals(arguments: list[str]) -> tuple[Context, str, list[str]]:
    from rorqual.errdefs import InvalidArgument
    from rorqual.runc.commands import parser
    from rorqual.runc.commands.context import Context

    options = (
        parser.flag("debug", help="enable debug logging"),
        parser.value("log", help="the log file to write runc logs to (standard error)"),
        parser.value("log-format", help="the log format: text (default) or json"),
        parser.value("root", help="directory of the containers' state, on a tmpfs"),
        parser.flag("systemd-cgroup", help="manage cgroups through systemd"),
        parser.value("rootless", help="ignore cgroup permission errors: true, false or auto"),
        parser.flag("help", "h", help="show help"),
        parser.flag("version", "v", help="print the version"),
    )
    line = parser.parse(arguments, options)
    if line.get("log-format", "text") not in ("text", "json"):
        raise InvalidArgument(f"invalid log-format: {line.get('log-format')}")
    chosen = Context(
        os.path.abspath(line.get("root") or _default_root()),
        line.get("log"),
        line.get("log-format", "text"),
        line.has("debug"),
        line.has("systemd-cgroup"),
        line.get("rootless", "auto"),
    )
    if line.has("version"):
        return chosen, "--version", []
    if line.has("help") or not line.arguments:
        return chosen, "help", []
    return chosen, line.arguments[0], line.arguments[1:]


def _default_root() -> str:
    runtime_dir = os.environ.get("XDG_RUNTIME_DIR")
    if os.geteuid() != 0 and runtime_dir:
        return f"{runtime_dir}/rorqual-runc"
    return "/run/rorqual-runc"


def _dispatch(name: str, rest: list[str], context: Context) -> int:
    from rorqual.errdefs import InvalidArgument
    from rorqual.runc.commands import parser

    if name == "--version":
        sys.stdout.write(f"rorqual-runc version {__version__}\nspec: {_SPEC_VERSION}\n")
        return 0
    if name in ("help", "h"):
        sys.stdout.write(_help())
        return 0
    entry = _COMMANDS.get(name)
    if entry is None:
        raise InvalidArgument(f"No help topic for '{name}'")
    from importlib import import_module

    module_name, function, options_name = entry
    module = import_module(f"rorqual.runc.commands.{module_name}")
    options = getattr(module, options_name) if options_name else ()
    if rest in (["--help"], ["-h"]):
        sys.stdout.write(_command_help(name, options))
        return 0
    status: int = getattr(module, function)(parser.parse(rest, options), context)
    return status


def _help() -> str:
    names = "".join(f"   {name}\n" for name in sorted(_COMMANDS))
    return (
        "NAME:\n   rorqual-runc - Open Container Initiative runtime\n\n"
        "USAGE:\n   rorqual-runc [global options] command [command options] [arguments...]\n\n"
        f"VERSION:\n   {__version__}\n\nCOMMANDS:\n{names}\n"
        "GLOBAL OPTIONS:\n   --root, --log, --log-format, --debug, --systemd-cgroup, --rootless, --help, --version\n"
    )


def _command_help(name: str, options: tuple[Option, ...]) -> str:
    lines = "".join(
        f"   {', '.join(('--' if len(n) > 1 else '-') + n for n in option.names):32}{option.help}\n"
        for option in options
    )
    return f"NAME:\n   rorqual-runc {name}\n\nOPTIONS:\n{lines}"


if __name__ == "__main__":
    main()

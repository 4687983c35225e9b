"""`rorqual-runc`: the runtime behind runc's command line, so that any engine can use it.

This module imports little: the interpreter is started a second time, sealed, before anything that enters containers.
"""

from __future__ import annotations

import gc
import os
import sys

from rorqual.linux.sealed import reexec_sealed
from rorqual.record import record
from rorqual.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.runc.commands.context import Context
    from rorqual.runc.commands.parser import Option

# Commands whose process is, for a moment, inside a container.
_ENTERING = frozenset({"create", "run", "exec", "restore"})


@record
class _Command:
    """`module` (below commands), its function and its options' name. `mixed`: options may follow arguments."""

    module: str
    function: str
    options: str
    arguments: str
    summary: str
    mixed: bool = True


_ID = "<container-id>"
_COMMANDS: dict[str, _Command] = {
    "checkpoint": _Command("checkpoint", "checkpoint", "CHECKPOINT_OPTIONS", _ID, "checkpoint a running container"),
    "create": _Command("run", "create", "CREATE_OPTIONS", _ID, "create a container"),
    "delete": _Command("lifecycle", "delete", "DELETE_OPTIONS", _ID, "delete any resources held by the container"),
    "events": _Command("events", "run", "OPTIONS", _ID, "display events of the container: out of memory, statistics"),
    "exec": _Command(
        "exec", "run", "OPTIONS", f"{_ID} <command> [arguments]", "execute a new process in the container", False
    ),
    "features": _Command("features", "run", "", "", "show what this runtime can do"),
    "kill": _Command(
        "lifecycle", "kill", "KILL_OPTIONS", f"{_ID} [signal]", "send a signal (default: SIGTERM) to init", False
    ),
    "list": _Command("show", "list_containers", "LIST_OPTIONS", "", "list the containers of the given root"),
    "pause": _Command("lifecycle", "pause", "", _ID, "suspend all processes of the container"),
    "ps": _Command("show", "ps", "PS_OPTIONS", f"{_ID} [ps options]", "show the container's processes", False),
    "restore": _Command("checkpoint", "restore", "RESTORE_OPTIONS", _ID, "restore a container from a checkpoint"),
    "resume": _Command("lifecycle", "resume", "", _ID, "resume all processes that were paused"),
    "run": _Command("run", "run", "RUN_OPTIONS", _ID, "create and run a container"),
    "spec": _Command("spec", "run", "OPTIONS", "", "create a new specification file"),
    "start": _Command("lifecycle", "start", "", _ID, "execute the user's process of a created container"),
    "state": _Command("show", "state", "", _ID, "output the state of a container"),
    "update": _Command("update", "run", "OPTIONS", _ID, "change the limits of a container"),
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
    from rorqual.runc.commands.parser import Usage

    context = Context(_default_root())
    name = ""
    try:
        context, name, rest = _globals(arguments)
        context.check_log()
        return _dispatch(name, rest, context)
    except Usage as e:
        sys.stdout.write(f"Incorrect Usage.\n\n{_command_help(name)}\n" if name in _COMMANDS else "")
        _report(context, str(e))
        return 1 if name in _COMMANDS or not name else 3
    except (Error, OSError) as e:
        _report(context, _PREFIXES.get(name, "") + _text(e))
        return 255 if name == "exec" else 1
    except KeyboardInterrupt:
        return 130


def _report(context: Context, text: str) -> None:
    """In the log for the engine, and on stderr for the user."""
    context.report("error", text)
    if context.log:
        sys.stderr.write(text + "\n")


def _text(error: Exception) -> str:
    if isinstance(error, OSError):
        from rorqual.runc.errors import reason

        return f"open {os.fsdecode(error.filename)}: {reason(error)}" if error.filename else reason(error)
    return str(error)


def _global_options() -> tuple[Option, ...]:
    from rorqual.runc.commands import parser

    return (
        parser.flag("debug", help="enable debug logging"),
        parser.value("log", help="the log file to write logs to (default: standard error)"),
        parser.value("log-format", help="the log format: text (default) or json"),
        parser.value("root", help=f"directory of the containers' state, on a tmpfs (default: {_default_root()})"),
        parser.value("criu", help="(obsolete; do not use)"),
        parser.flag("systemd-cgroup", help="manage cgroups through systemd: refused where it does not run"),
        parser.value("rootless", help="ignore cgroup permission errors: true, false or auto (default)"),
        parser.flag("help", "h", help="show help"),
        parser.flag("version", "v", help="print the version"),
    )


def _globals(arguments: list[str]) -> tuple[Context, str, list[str]]:
    from rorqual.errdefs import InvalidArgument
    from rorqual.runc.commands import parser
    from rorqual.runc.commands.context import Context

    line = parser.parse(arguments, _global_options())
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
    if runtime_dir and _is_users():
        return f"{runtime_dir}/rorqual-runc"
    return "/run/rorqual-runc"


def _is_users() -> bool:
    """An ordinary user's command, or one that such a user runs as root of a user namespace (rootless podman)."""
    if os.geteuid() != 0:
        return True
    if os.environ.get("USER") == "root":
        return False
    from rorqual.linux import namespaces

    return not namespaces.in_initial_user_namespace()


def _dispatch(name: str, rest: list[str], context: Context) -> int:
    from rorqual.runc.commands import parser

    if name == "--version":
        sys.stdout.write(f"rorqual-runc version {__version__}\ncommit: {__version__}\nspec: {_SPEC_VERSION}\n")
        return 0
    if name in ("help", "h") and rest:
        name, rest = rest[0], ["--help"]
    if name in ("help", "h"):
        sys.stdout.write(_help())
        return 0
    command = _COMMANDS.get(name)
    if command is None:
        raise parser.Usage(f"No help topic for '{name}'")
    from importlib import import_module

    module = import_module(f"rorqual.runc.commands.{command.module}")
    options = getattr(module, command.options) if command.options else ()
    if rest and rest[0] in ("--help", "-h"):
        sys.stdout.write(_command_help(name))
        return 0
    if context.debug:
        context.report("debug", f"command {name}: {' '.join(rest)}; state in {context.root}")
    status: int = getattr(module, command.function)(parser.parse(rest, options, mixed=command.mixed), context)
    return status


def _help() -> str:
    names = "".join(f"   {name:12}{command.summary}\n" for name, command in _COMMANDS.items())
    return (
        "NAME:\n   rorqual-runc - Open Container Initiative runtime\n\n"
        "USAGE:\n   rorqual-runc [global options] command [command options] [arguments...]\n\n"
        f"VERSION:\n   {__version__}\n\nCOMMANDS:\n{names}   {'help, h':12}show a list of commands or help for one\n\n"
        f"GLOBAL OPTIONS:\n{_option_lines(_global_options())}"
    )


def _command_help(name: str) -> str:
    from importlib import import_module

    command = _COMMANDS[name]
    options: tuple[Option, ...] = ()
    if command.options:
        options = getattr(import_module(f"rorqual.runc.commands.{command.module}"), command.options)
    usage = f"rorqual-runc {name} [command options] {command.arguments}".rstrip()
    listed = f"\n\nOPTIONS:\n{_option_lines(options)}" if options else "\n"
    return f"NAME:\n   rorqual-runc {name} - {command.summary}\n\nUSAGE:\n   {usage}{listed}"


def _option_lines(options: tuple[Option, ...]) -> str:
    shown = [
        (", ".join(("--" if len(n) > 1 else "-") + n + ("" if o.flag else " value") for n in o.names), o.help)
        for o in options
    ]
    width = max(len(names) for names, _ in shown) + 2
    return "".join(f"   {names.ljust(width)}{text}\n" for names, text in shown)


if __name__ == "__main__":
    main()

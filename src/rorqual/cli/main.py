"""The `rorqual` command: global flags, then the chosen command, then the exit code.

Start-up is most of what `rorqual ps` costs, so this module imports no more than every command needs (measured by
tests/unit/cli/test_startup.py); the command's module is imported when it was chosen.

Exit codes: 0; 1 for errors; 125 for flags that cannot be read and for run's own failures; the container's for run,
exec, start -a and attach; 130 after Ctrl-C.
"""

from __future__ import annotations

import os
import sys

from rorqual import errdefs
from rorqual.cli import registry
from rorqual.cli.command import PROGRAM, Command, Context
from rorqual.cli.errors import Exit, FlagError, HelpWanted, UsageError
from rorqual.cli.flags import FlagSet, Values
from rorqual.client import Client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

    from rorqual.cli.flags import Flag

EXIT_FLAGS = 125
EXIT_INTERRUPTED = 130


def default_config_dir() -> str:
    """Docker's own directory: logins made with either client serve both."""
    return os.environ.get("DOCKER_CONFIG") or os.path.join(os.path.expanduser("~"), ".docker")


def global_flags() -> Sequence[Flag]:
    d = default_config_dir()
    return (
        ("config", "", "string", d, f'Location of client config files (default "{d}")'),
        (
            "context",
            "c",
            "string",
            "",
            "Name of the context to use to connect to the daemon (overrides DOCKER_HOST env var and default "
            'context set with "docker context use")',
        ),
        ("debug", "D", "bool", False, "Enable debug mode"),
        ("host", "H", "list", (), "Daemon socket to connect to"),
        (
            "log-level",
            "l",
            "string",
            "info",
            'Set the logging level ("debug", "info", "warn", "error", "fatal") (default "info")',
        ),
        ("tls", "", "bool", False, "Use TLS; implied by --tlsverify"),
        ("tlscacert", "", "string", d + "/ca.pem", f'Trust certs signed only by this CA (default "{d}/ca.pem")'),
        ("tlscert", "", "string", d + "/cert.pem", f'Path to TLS certificate file (default "{d}/cert.pem")'),
        ("tlskey", "", "string", d + "/key.pem", f'Path to TLS key file (default "{d}/key.pem")'),
        ("tlsverify", "", "bool", bool(os.environ.get("DOCKER_TLS_VERIFY")), "Use TLS and verify the remote"),
        ("version", "v", "bool", False, "Print version information and quit"),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The console script: run the process's arguments and end it; with `argv`, run those and return the exit code."""
    if argv is not None:
        return execute(list(argv))
    code = execute(sys.argv[1:])
    _flush(sys.stdout)
    _flush(sys.stderr)
    # Nothing here needs the interpreter taken down piece by piece, which costs 2-3 ms.
    os._exit(code)


def _flush(stream: TextIO) -> None:
    try:
        stream.flush()
    except OSError:
        # The reader left; `execute` has taken account of that.
        return


def execute(args: list[str]) -> int:
    """Run a command line; the exit code. Writes to stdout and stderr."""
    try:
        code = _run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader left (`rorqual ps | head -1`). What stdout still holds must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exit as e:
        code = _fail(e.message, e.code)
    except errdefs.Error as e:
        from rorqual.cli.render import error_text

        code = _fail(error_text(e), 1)
    return code


def _fail(message: str, code: int) -> int:
    if message:
        sys.stdout.flush()
        sys.stderr.write(message + "\n")
        sys.stderr.flush()
    return code


def _run(args: list[str]) -> int:
    flags = global_flags()
    try:
        options, words = FlagSet(flags, interspersed=False).parse(args)
    except FlagError as e:
        from rorqual.cli.render import flag_error

        return _fail(flag_error(PROGRAM, "[OPTIONS] COMMAND [ARG...]", str(e)), EXIT_FLAGS)
    except HelpWanted:
        return _help([], flags)
    if options.boolean("version"):
        from rorqual.version import __version__

        sys.stdout.write(f"Rorqual version {__version__}\n")
        return 0
    if not words:
        return _help([], flags)
    if words[0] == "help":
        return _help(words[1:], flags)
    context = Context(
        lambda ctx: _connect(ctx, options),
        options.string("config"),
        debug=options.boolean("debug"),
        chosen=_chosen(options),
    )
    if words[0] == "__complete":
        from rorqual.cli.completing import complete, leading

        try:
            # The engine that is asked for names is the one that the line being typed would ask.
            typed, _ = FlagSet(flags, interspersed=False).parse(words[1:][: leading(words[1:], flags)])
        except (FlagError, HelpWanted):
            typed = options
        context = Context(lambda ctx: _connect(ctx, typed), typed.string("config"), chosen=_chosen(typed))
        sys.stdout.write("".join(f"{line}\n" for line in complete(context, words[1:], flags)))
        return 0
    if words[0] in registry.GROUP_FLAGS:
        try:
            words = _group_flags(context, words)
        except FlagError as e:
            from rorqual.cli.render import flag_error

            return _fail(flag_error(f"{PROGRAM} {words[0]}", "[OPTIONS] COMMAND", str(e)), EXIT_FLAGS)
        except HelpWanted:
            return _help(words[:1], flags)
    if words[0] == "docker-cli-plugin-metadata":
        return _plugin_metadata()
    found = registry.find(words)
    if found is None:
        return _group_or_unknown(words, flags)
    module, count = found
    return _command(context, load(module), " ".join([PROGRAM, *words[:count]]), words[count:])


def _plugin_metadata() -> int:
    """What the stock `docker` asks its plugin docker-compose. Source: docker/cli, cli-plugins/metadata."""
    from rorqual.oci import jsontext
    from rorqual.version import __version__

    document = {
        "SchemaVersion": "0.1.0",
        "Vendor": "Rorqual",
        "Version": f"v{__version__}",
        "ShortDescription": registry.GROUPS["compose"][0],
    }
    sys.stdout.write(jsontext.dumps(document) + "\n")
    return 0


def _group_flags(context: Context, words: list[str]) -> list[str]:
    """Takes the group's flags out from behind its name. Raises: FlagError, HelpWanted."""
    module = __import__(f"rorqual.cli.commands.{registry.GROUP_FLAGS[words[0]]}", fromlist=["FLAGS"])
    context.group, rest = FlagSet(module.FLAGS, renamed=module.RENAMED, interspersed=False).parse(words[1:])
    return [words[0], *module.leading(context.group, rest)]


def _chosen(options: Values) -> str:
    """The context that the command line names; -H is the default one's."""
    return options.string("context") or ("default" if options.many("host") else "")


def load(module: str) -> Command:
    """The command of a module below rorqual.cli.commands."""
    command: Command = __import__(f"rorqual.cli.commands.{module}", fromlist=["COMMAND"]).COMMAND
    return command


def _command(context: Context, command: Command, path: str, args: list[str]) -> int:
    context.path = path
    try:
        flags = FlagSet(
            command.flags,
            validators=command.validators,
            renamed=command.renamed,
            interspersed=command.interspersed,
        )
        values, rest = flags.parse(args)
        command.check_args(path, len(rest))
        return command.run(context, values, rest) or 0
    except HelpWanted:
        from rorqual.cli.command import help_columns
        from rorqual.cli.render import command_help

        sys.stdout.write(command_help(path, command, help_columns()))
        return 0
    except FlagError as e:
        from rorqual.cli.render import flag_error

        return _fail(flag_error(path, command.usage, str(e)), EXIT_FLAGS)
    except UsageError as e:
        from rorqual.cli.render import args_error

        return _fail(args_error(path, command, str(e)), 1)


def _connect(context: Context, options: Values) -> Client:
    hosts = options.many("host")
    if len(hosts) > 1:
        raise Exit(1, "Specify only one -H")
    from rorqual.client.transport import TLSOptions

    host: str | None = hosts[0] if hosts else None
    tls = None
    if host is None and not (os.environ.get("RORQUAL_HOST") or os.environ.get("DOCKER_HOST")):
        host, tls = context.config.context_endpoint(options.string("context"))
    elif options.string("context"):
        if hosts:
            raise Exit(1, "conflicting options: cannot specify both --host and --context")
        host, tls = context.config.context_endpoint(options.string("context"))
    if options.boolean("tls") or options.boolean("tlsverify"):
        certs = os.environ.get("DOCKER_CERT_PATH") or context.config_dir
        names = {"tlscacert": "ca.pem", "tlscert": "cert.pem", "tlskey": "key.pem"}
        files = {
            flag: options.string(flag) if options.changed(flag) else os.path.join(certs, name)
            for flag, name in names.items()
        }
        present = {flag: p if options.changed(flag) or os.path.exists(p) else "" for flag, p in files.items()}
        tls = TLSOptions(
            present["tlscacert"], present["tlscert"], present["tlskey"], verify=options.boolean("tlsverify")
        )
    try:
        return Client(host, tls=tls, headers=context.config.http_headers(), user_agent=_user_agent())
    except errdefs.InvalidArgument as e:
        raise Exit(1, f"Failed to initialize: unable to resolve docker endpoint: {e}") from e


def _user_agent() -> str:
    from rorqual.version import __version__

    return f"Rorqual-Client/{__version__} (linux)"


def _help(words: list[str], flags: Sequence[Flag]) -> int:
    from rorqual.cli.command import help_columns
    from rorqual.cli.help import group_help, root_help
    from rorqual.cli.render import command_help

    if not words:
        sys.stdout.write(root_help(flags, help_columns()))
        return 0
    found = registry.find(words)
    if found is not None:
        path = " ".join([PROGRAM, *words[: found[1]]])
        sys.stdout.write(command_help(path, load(found[0]), help_columns()))
        return 0
    if len(words) == 1 and words[0] in registry.GROUPS:
        sys.stdout.write(group_help(words[0]))
        return 0
    return _fail(f"unknown help topic: {' '.join(words)}", 1)


def _usage_of(group: str) -> str:
    # The one group of the stock command line whose usage line names it.
    return "COMMAND" if group == "volume" else ""


def _group_or_unknown(words: list[str], flags: Sequence[Flag]) -> int:
    group = words[0]
    if group not in registry.GROUPS:
        return _fail(f"{PROGRAM}: unknown command: {PROGRAM} {group}\n\nRun '{PROGRAM} --help' for more information", 1)
    path = f"{PROGRAM} {group}"
    try:
        _, rest = FlagSet((), interspersed=False).parse(words[1:])
    except HelpWanted:
        return _help([group], flags)
    except FlagError as e:
        from rorqual.cli.render import flag_error

        return _fail(flag_error(path, _usage_of(group), str(e)), EXIT_FLAGS)
    if not rest:
        from rorqual.cli.help import group_help

        # Nothing was asked for: the help is a hint, not an answer, so it does not go to stdout.
        sys.stderr.write(group_help(group))
        return 0
    usage = f"Usage:  {path} {_usage_of(group)}".rstrip() + "\n\n"
    usage += f"Run '{path} --help' for more information"
    return _fail(f"{PROGRAM}: unknown command: {path} {rest[0]}\n\n{usage}", 1)

"""The flags of `rorqual compose` itself, and the project that they name.

Source: Docker's compose reference, and its environment variables COMPOSE_*.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

from rorqual import errdefs
from rorqual.cli.command import Context
from rorqual.cli.commands.compose.progress import Progress
from rorqual.cli.errors import CommandError
from rorqual.cli.flags import FlagSet, Values
from rorqual.compose import execute, loader, observe, project
from rorqual.compose.interpolate import Interpolator
from rorqual.compose.observe import Seen
from rorqual.compose.project import Project

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Flag

_TRUE = frozenset(("1", "t", "true", "y", "yes", "on"))

FLAGS: tuple[Flag, ...] = (
    ("all-resources", "", "bool", False, "Include all resources, even those not used by services"),
    ("ansi", "", "string", "auto", 'Control when to print ANSI control characters ("never"|"always"|"auto")'),
    ("compatibility", "", "bool", False, "Run compose in backward compatibility mode"),
    ("env-file", "", "stringArray", (), "Specify an alternate environment file"),
    ("file", "f", "stringArray", (), "Compose configuration files"),
    ("parallel", "", "int", -1, "Control max parallelism, -1 for unlimited"),
    ("profile", "", "stringArray", (), "Specify a profile to enable"),
    ("progress", "", "string", "", "Set type of progress output (auto, tty, plain, json, quiet)"),
    (
        "project-directory",
        "",
        "string",
        "",
        "Specify an alternate working directory\n(default: the path of the, first specified, Compose file)",
    ),
    ("project-name", "p", "string", "", "Project name"),
    ("dry-run", "", "bool", False, "Execute command in dry run mode", True),
    ("no-ansi", "", "bool", False, "Do not print ANSI control characters (DEPRECATED)", True),
    ("verbose", "", "bool", False, "Show more output", True),
    ("version", "v", "bool", False, "Show the Compose version information", True),
)
RENAMED = {"workdir": "project-directory"}


def leading(flags: Values, words: list[str]) -> list[str]:
    """The command behind the group's flags. Raises: CommandError."""
    if flags.boolean("dry-run"):
        raise CommandError("--dry-run is not supported")
    return ["version"] if flags.boolean("version") else words


def group(context: Context) -> Values:
    if context.group is None:  # called by a command that is not below `compose`
        context.group, _ = FlagSet(FLAGS).parse(())
    return context.group


def environment(context: Context) -> dict[str, str]:
    """This process's variables, and those of .env or --env-file. Raises: InvalidArgument."""
    return project.environment_of(_directory(context)[0], _env_files(group(context)), os.environ, missing_ok=False)


def _env_files(flags: Values) -> list[str]:
    given: list[str] = flags.many("env-file")
    given = given or [name for name in os.environ.get("COMPOSE_ENV_FILES", "").split(",") if name]
    return [os.path.join(_here(), os.path.expanduser(name)) for name in given]


def _here() -> str:
    """The working directory, by the name that the shell has for it: a project is called after that."""
    named = os.environ.get("PWD", "")
    try:
        return named if os.path.isabs(named) and os.path.samefile(named, ".") else os.getcwd()
    except OSError:
        return os.getcwd()


def _directory(context: Context) -> tuple[str, list[str]]:
    """(the project's directory, its files); no file when there is none."""
    flags = group(context)
    chosen = flags.string("project-directory")
    files: list[str] = flags.many("file")
    base = os.path.normpath(os.path.join(_here(), chosen))
    if not files:
        separator = os.environ.get("COMPOSE_PATH_SEPARATOR", os.pathsep)
        text = os.environ.get("COMPOSE_FILE", "")
        if not text:
            # .env of the working directory may name the files.
            own = project.environment_of(base, _env_files(flags), os.environ, missing_ok=True)
            text, separator = own.get("COMPOSE_FILE", ""), own.get("COMPOSE_PATH_SEPARATOR", separator)
        files = [name for name in text.split(separator) if name]
    if not files:
        files = loader.find(base)
        return (base if chosen or not files else os.path.dirname(files[0])), files
    files = [name if name == "-" else os.path.normpath(os.path.join(_here(), name)) for name in files]
    named = next((name for name in files if name != "-"), "")
    return (base if chosen or not named else os.path.dirname(named)), files


def load(
    context: Context,
    wanted: Sequence[str] = (),
    *,
    interpolate: bool = True,
    paths: bool = True,
    resolve_environment: bool = True,
    check: bool = True,
    quiet: bool = False,
) -> Project:
    """The project of the flags; `wanted`: the services that matter. Raises: CommandError (no file), InvalidArgument."""
    flags = group(context)
    directory, files = _directory(context)
    if not files:
        raise CommandError("no configuration file provided: not found")
    variables = project.environment_of(directory, _env_files(flags), os.environ, missing_ok=False)
    name = flags.string("project-name") or variables.get("COMPOSE_PROJECT_NAME", "")
    if name:
        project.check_name(name)
    else:
        name = _name_in(files, variables) or project.normal_name(os.path.basename(directory))
        if not name:
            raise CommandError("project name must not be empty. Use `--project-name` to set a valid name")
    variables["COMPOSE_PROJECT_NAME"] = name

    def warn(text: str) -> None:
        if not quiet:
            context.err(f"WARN[0000] {text}")

    options = loader.Options(variables, interpolate, paths, lambda: sys.stdin.buffer.read(), warn)
    document = loader.Loader(options).load(files, directory)
    profiles = flags.many("profile") or [p for p in variables.get("COMPOSE_PROFILES", "").split(",") if p]
    return project.make(
        document,
        name=name,
        directory=directory,
        files=files,
        environment=variables,
        profiles=profiles,
        wanted=wanted,
        resolve_environment=resolve_environment,
        check=check,
    )


def _name_in(files: Sequence[str], variables: dict[str, str]) -> str:
    """The last file's top-level name that has one. Raises: InvalidArgument."""
    from rorqual.compose import yamltext

    name = ""
    for path in files:
        if path == "-":
            continue
        try:
            with open(path, "rb") as file:
                documents = yamltext.load(file.read(), path)
        except OSError as e:
            raise CommandError(f"open {path}: {(e.strerror or '').lower()}") from None
        for document in documents:
            if isinstance(document, dict) and isinstance(document.get("name"), str):
                name = Interpolator(variables.get).text(document["name"], "name")
    return project.normal_name(name)


def known(context: Context) -> Project:
    """The project, by its file or, with a name alone, by what there is. Raises: as `load`."""
    flags = group(context)
    name = flags.string("project-name")
    if not name or flags.many("file"):
        directory, files = _directory(context)
        name = name or os.environ.get("COMPOSE_PROJECT_NAME", "")
        if files or not name:
            return load(context, resolve_environment=False)
    project.check_name(name)
    directory = _here()
    services = {seen.service: seen.needs() for seen in observe.everything(context.client, name)}
    return Project(name, directory, (), {}, dict(sorted(services.items())), {}, dict(os.environ))


def check_services(named: Project, services: Sequence[str]) -> None:
    """Raises: NotFound for one that the project has not."""
    for name in services:
        if name not in named.services and name not in named.disabled:
            raise errdefs.NotFound(f"no such service: {name}")


def container(context: Context, name: str, index: int = 0, *, running: bool = True) -> Seen:
    """A service's container: that number, or the first. Raises: NotFound, CommandError."""
    named = known(context)
    check_services(named, [name])
    found = observe.containers(context.client, named.name, services=[name])
    if running:
        found = [seen for seen in found if seen.running]
    if index:
        found = [seen for seen in found if seen.number == index]
    if not found:
        if index:
            raise CommandError(f'service "{name}" is not running container #{index}')
        raise CommandError(
            f'service "{name}" is not running' if running else f'no container found for service "{name}"'
        )
    return found[0]


def options(context: Context, **more: object) -> execute.Options:
    flags = group(context)
    most = flags.integer("parallel") if flags.integer("parallel") > 0 else 0
    limit = os.environ.get("COMPOSE_PARALLEL_LIMIT", "")
    if not most and limit.isdecimal():
        most = int(limit)
    made = execute.Options(
        all_resources=flags.boolean("all-resources"),
        separator="_" if flags.boolean("compatibility") else "-",
        most=most,
    )
    return replace(made, **more)  # type: ignore[arg-type]  # fields of Options, by name


def progress(context: Context, title: str, *, quiet: bool = False) -> Progress:
    flags = group(context)
    mode = flags.string("progress") or os.environ.get("COMPOSE_PROGRESS", "auto")
    if mode not in ("auto", "tty", "plain", "json", "quiet"):
        raise CommandError(f'unsupported --progress value "{mode}"')
    ansi = ansi_mode(context)
    if ansi not in ("auto", "never", "always"):
        raise CommandError(f'unknown --ansi mode: {ansi} (must be "never", "always" or "auto")')
    if quiet:
        mode = "quiet"
    elif mode == "auto":
        mode = "tty" if ansi == "always" or (ansi == "auto" and sys.stderr.isatty()) else "plain"
    return Progress(title, mode)


def ansi_mode(context: Context) -> str:
    """never, always or auto."""
    flags = group(context)
    if flags.boolean("no-ansi"):
        return "never"
    return flags.string("ansi") if flags.changed("ansi") else os.environ.get("COMPOSE_ANSI", "auto")


def executor(context: Context, of: Project, shown: Progress, **more: object) -> execute.Executor:
    return execute.Executor(lambda: context.connect(context), of, shown, options(context, **more))


def is_set(variable: str, of: Project) -> bool:
    """Whether a COMPOSE_ variable says yes."""
    return of.environment.get(variable, "").lower() in _TRUE


def scales(texts: Sequence[str], of: Project) -> dict[str, int]:
    """Of `SERVICE=NUMBER` each. Raises: CommandError, NotFound."""
    out: dict[str, int] = {}
    for text in texts:
        name, equals, number = text.partition("=")
        if not equals or not name or not number:
            raise CommandError(f"invalid scale specifier: {text}")
        if not number.isdecimal():
            raise CommandError(f"invalid scale specifier: {text}: {number} is no number")
        check_services(of, [name])
        out[name] = int(number)
    return out


def as_there(context: Context, of: Project, besides: Collection[str]) -> dict[str, int]:
    """The numbers of containers that services have now, of all that have some but `besides`."""
    counts = Counter(seen.service for seen in observe.containers(context.client, of.name))
    return {name: count for name, count in counts.items() if name in of.services and name not in besides}


def timeout(flags: Values) -> int | None:
    return flags.integer("timeout") if flags.changed("timeout") else None

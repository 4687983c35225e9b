"""`rorqual compose up`, and what it shares with create, run and scale."""

from __future__ import annotations

from contextlib import suppress

from rorqual import errdefs
from rorqual.cli.command import ANY_ARGS, Command, Context
from rorqual.cli.commands.compose import imaging, loading
from rorqual.cli.commands.compose.attaching import Attachment, Wishes
from rorqual.cli.commands.compose.following import Printer, colored
from rorqual.cli.commands.compose.progress import Progress
from rorqual.cli.errors import CommandError
from rorqual.cli.flags import Values
from rorqual.compose import execute, observe
from rorqual.compose.observe import Seen
from rorqual.compose.plan import Policy
from rorqual.compose.project import Project

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Flag

# Of create too.
CREATE_FLAGS: tuple[Flag, ...] = (
    ("build", "", "bool", False, "Build images before starting containers"),
    (
        "force-recreate",
        "",
        "bool",
        False,
        "Recreate containers even if their configuration and image haven't changed",
    ),
    ("no-build", "", "bool", False, "Don't build an image, even if it's policy"),
    (
        "no-recreate",
        "",
        "bool",
        False,
        "If containers already exist, don't recreate them. Incompatible with --force-recreate.",
    ),
    (
        "pull",
        "",
        "string",
        "policy",
        'Pull image before running ("always"|"missing"|"never"|"build") (default "policy")',
    ),
    ("quiet-pull", "", "bool", False, "Pull without printing progress information"),
    ("remove-orphans", "", "bool", False, "Remove containers for services not defined in the Compose file"),
    (
        "scale",
        "",
        "stringArray",
        (),
        "Scale SERVICE to NUM instances. Overrides the `scale` setting in the Compose file if present.",
    ),
    ("yes", "y", "bool", False, 'Assume "yes" as answer to all prompts and run non-interactively'),
)


def check(flags: Values) -> None:
    """Raises: CommandError for flags that exclude each other."""
    if flags.boolean("build") and flags.boolean("no-build"):
        raise CommandError("--build and --no-build are incompatible")
    if flags.boolean("force-recreate") and flags.boolean("no-recreate"):
        raise CommandError("--force-recreate and --no-recreate are incompatible")


def orphans(context: Context, of: Project, *, remove: bool) -> None:
    """Containers of services that the project has no more: removed, or named in a warning."""
    services = {*of.services, *of.disabled}
    found = [seen for seen in observe.containers(context.client, of.name) if seen.service not in services]
    if not found:
        return
    if remove or loading.is_set("COMPOSE_REMOVE_ORPHANS", of):
        with loading.progress(context, "Running") as shown:
            loading.executor(context, of, shown).remove(found, volumes=False)
    elif not loading.is_set("COMPOSE_IGNORE_ORPHANS", of):
        names = " ".join(seen.name for seen in found)
        context.err(
            f"WARN[0000] Found orphan containers ([{names}]) for this project. If you removed or renamed this service"
            " in your compose file, you can run this command with the --remove-orphans flag to clean it up."
        )


def make(
    context: Context,
    flags: Values,
    of: Project,
    args: list[str],
    shown: Progress,
    *,
    recreate_dependencies: Policy = "diverged",
    renew_volumes: bool = False,
    scale: dict[str, int] | None = None,
    stop_timeout_s: int | None = None,
) -> execute.Executor:
    """Networks, volumes and containers of the project as they should be."""
    recreate: Policy = "diverged"
    if flags.boolean("force-recreate") or renew_volumes:
        recreate = "force"
    elif flags.boolean("no-recreate"):
        recreate = recreate_dependencies = "never"
    executor = loading.executor(
        context,
        of,
        shown,
        recreate=recreate,
        recreate_dependencies=recreate_dependencies,
        services=tuple(args),
        scale=scale or {},
        timeout_s=stop_timeout_s,
        renew_volumes=renew_volumes,
    )
    executor.ensure_resources()
    executor.create()
    return executor


def run(context: Context, flags: Values, args: list[str]) -> int:
    check(flags)
    detached = flags.boolean("detach") or flags.boolean("wait")
    abort = "failure" if flags.boolean("abort-on-container-failure") else ""
    if abort and flags.boolean("abort-on-container-exit"):
        raise CommandError("--abort-on-container-failure cannot be combined with --abort-on-container-exit")
    if not abort and (flags.boolean("abort-on-container-exit") or flags.string("exit-code-from")):
        abort = "exit"
    if flags.boolean("detach") and (abort or flags.boolean("attach-dependencies") or flags.many("attach")):
        raise CommandError(
            "--detach cannot be combined with --abort-on-container-exit, --abort-on-container-failure, --attach or"
            " --attach-dependencies"
        )
    if flags.boolean("always-recreate-deps") and flags.boolean("no-recreate"):
        raise CommandError("--always-recreate-deps and --no-recreate are incompatible")
    if flags.boolean("watch"):
        raise CommandError("--watch is not supported")
    whole = loading.load(context, args)
    of = whole.selected(args, dependencies=not flags.boolean("no-deps"))
    if not of.services:
        raise CommandError("no service selected")
    code_from = flags.string("exit-code-from")
    if code_from:
        loading.check_services(of, [code_from])
    scale = loading.scales(flags.many("scale"), of)
    imaging.ensure(
        context,
        of,
        pull=flags.string("pull"),
        build=flags.boolean("build"),
        no_build=flags.boolean("no-build"),
        quiet_pull=flags.boolean("quiet-pull"),
        quiet_build=flags.boolean("quiet-build"),
    )
    orphans(context, whole, remove=flags.boolean("remove-orphans"))
    with loading.progress(context, "Running") as shown:
        executor = make(
            context,
            flags,
            of,
            args,
            shown,
            recreate_dependencies="force" if flags.boolean("always-recreate-deps") else "diverged",
            renew_volumes=flags.boolean("renew-anon-volumes"),
            scale=scale,
            stop_timeout_s=loading.timeout(flags),
        )
        if flags.boolean("no-start"):
            return 0
        if detached:
            executor.start(wait=flags.boolean("wait"), wait_timeout_s=float(flags.integer("wait-timeout")))
            return 0
    return _foreground(context, flags, of, args, executor, Wishes(abort, code_from, flags.boolean("timestamps")))


def _attached(flags: Values, of: Project, args: list[str]) -> set[str]:
    """Services whose output is shown."""
    chosen = set(flags.many("attach"))
    loading.check_services(of, sorted(chosen | set(flags.many("no-attach"))))
    if not chosen:
        chosen = set(of.services)
        if args and not flags.boolean("attach-dependencies"):
            chosen = set(args)
        chosen = {name for name in chosen if of.services[name].get("attach", True)}
    return chosen - set(flags.many("no-attach"))


def _foreground(
    context: Context, flags: Values, of: Project, args: list[str], executor: execute.Executor, wishes: Wishes
) -> int:
    made = [seen for name in of.services for seen in executor.made(name)]
    attached = _attached(flags, of, args)
    color = colored(context, no_color=flags.boolean("no-color"))
    printer = Printer(plain=flags.boolean("no-log-prefix"), color=color)
    attachment = Attachment(context, of.name, attached, printer, wishes)
    shown = sorted(seen.short(of.name) for seen in made if seen.service in attached)
    printer.say(f"Attaching to {', '.join(shown)}")
    scale = loading.scales(flags.many("scale"), of)
    starter = loading.executor(context, of, loading.progress(context, "", quiet=True), scale=scale)

    def stop() -> None:
        starter.give_up()
        with loading.progress(context, "Stopping") as told:
            ending = loading.executor(context, of, told, timeout_s=loading.timeout(flags))
            ending.stop(_running(context, of, made))

    def kill() -> None:
        client = context.connect(context)
        for seen in _running(context, of, made):
            with suppress(errdefs.Conflict, errdefs.NotFound):  # it ended meanwhile
                client.containers.kill(seen.id)

    return attachment.follow(made, set(args) or attached, starter.start, stop, kill)


def _running(context: Context, of: Project, made: list[Seen]) -> list[Seen]:
    ids = {seen.id for seen in made}
    found = observe.containers(context.connect(context), of.name)
    return [seen for seen in found if seen.id in ids and seen.running]


COMMAND = Command(
    "[OPTIONS] [SERVICE...]",
    "Create and start containers",
    run,
    flags=(
        *CREATE_FLAGS,
        (
            "abort-on-container-exit",
            "",
            "bool",
            False,
            "Stops all containers if any container was stopped. Incompatible with -d",
        ),
        (
            "abort-on-container-failure",
            "",
            "bool",
            False,
            "Stops all containers if any container exited with failure. Incompatible with -d",
        ),
        (
            "always-recreate-deps",
            "",
            "bool",
            False,
            "Recreate dependent containers. Incompatible with --no-recreate.",
        ),
        (
            "attach",
            "",
            "stringArray",
            (),
            "Restrict attaching to the specified services. Incompatible with --attach-dependencies.",
        ),
        ("attach-dependencies", "", "bool", False, "Automatically attach to log output of dependent services"),
        ("detach", "d", "bool", False, "Detached mode: Run containers in the background"),
        (
            "exit-code-from",
            "",
            "string",
            "",
            "Return the exit code of the selected service container. Implies --abort-on-container-exit",
        ),
        ("menu", "", "bool", False, "Enable interactive shortcuts when running attached. Incompatible with --detach."),
        ("no-attach", "", "stringArray", (), "Do not attach (stream logs) to the specified services"),
        ("no-color", "", "bool", False, "Produce monochrome output"),
        ("no-deps", "", "bool", False, "Don't start linked services"),
        ("no-log-prefix", "", "bool", False, "Don't print prefix in logs"),
        ("no-start", "", "bool", False, "Don't start the services after creating them"),
        ("quiet-build", "", "bool", False, "Suppress the build output"),
        (
            "renew-anon-volumes",
            "V",
            "bool",
            False,
            "Recreate anonymous volumes instead of retrieving data from the previous containers",
        ),
        (
            "timeout",
            "t",
            "int",
            0,
            "Use this timeout in seconds for container shutdown when attached or when containers are already running",
        ),
        ("timestamps", "", "bool", False, "Show timestamps"),
        ("wait", "", "bool", False, "Wait for services to be running|healthy. Implies detached mode."),
        (
            "wait-timeout",
            "",
            "int",
            0,
            "Maximum duration in seconds to wait for the project to be running|healthy",
        ),
        ("watch", "w", "bool", False, "Watch source code and rebuild/refresh containers when files are updated."),
    ),
    args=ANY_ARGS,
)

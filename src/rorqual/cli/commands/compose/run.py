"""`rorqual compose run`: one container of a service beside its others, for one command."""

from __future__ import annotations

import os
import secrets
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from rorqual import errdefs
from rorqual.cli import starting, terminal
from rorqual.cli.command import AT_LEAST_ONE, Command, Context
from rorqual.cli.commands.compose import imaging, loading, up
from rorqual.cli.errors import CommandError, Exit
from rorqual.cli.flags import Values
from rorqual.cli.options import environment
from rorqual.cli.render import error_text
from rorqual.compose import containers, dotenv, labels, schema
from rorqual.compose.kinds import JSON
from rorqual.compose.project import Project


def run(context: Context, flags: Values, args: list[str]) -> int:
    whole = loading.load(context, args[:1])
    name = args[0]
    loading.check_services(whole, [name])
    of = whole.selected([name])
    service = _wanted(flags, of, name, args[1:])
    of = replace(of, services={**of.services, name: service})
    pull = flags.string("pull")
    imaging.ensure(
        context,
        of if not flags.boolean("no-deps") else of.selected([name], dependencies=False),
        pull=pull,
        build=flags.boolean("build"),
        quiet_pull=flags.boolean("quiet-pull"),
        quiet_build=flags.boolean("quiet-build"),
    )
    up.orphans(context, whole, remove=flags.boolean("remove-orphans"))
    with loading.progress(context, "Running", quiet=flags.boolean("quiet")) as shown:
        others = replace(of, services={key: value for key, value in of.services.items() if key != name})
        scale = loading.as_there(context, others, ())
        below = loading.executor(context, others, shown, services=(name,), scale=scale)
        loading.executor(context, of, shown).ensure_resources()
        if not flags.boolean("no-deps"):
            below.ensure_resources()
            below.create()
            below.start()
            below.wait_for(service)
        detach = flags.boolean("detach")
        tty = not detach and not flags.boolean("no-tty") and os.isatty(0) and os.isatty(1)
        body = _body(context, of, name, service, flags, tty=tty)
        shown_name = flags.string("name") or f"{of.name}-{name}-run-{body['Labels'][labels.SLUG][:12]}"
        shown("Container", shown_name, "Creating")
        id = below.create_container(body, shown_name, service)
        shown("Container", shown_name, "Created")

    def start() -> None:
        below.inject(id, service)
        try:
            context.client.containers.start(id)
        except errdefs.Error as e:
            raise Exit(starting.start_exit_code(str(e)), error_text(e)) from e

    if detach:
        start()
        context.out(id)
        return 0
    return starting.attached(context, id, body, context.config.text("detachKeys"), start=start, proxy=True)


def _wanted(flags: Values, of: Project, name: str, command: list[str]) -> JSON:
    """The service as the flags change it. Raises: InvalidArgument."""
    service = dict(of.services[name])
    given: JSON = {}
    if command:
        given["command"] = command
    if flags.changed("entrypoint"):
        given["entrypoint"] = shlex.split(flags.string("entrypoint"))
        if not command:
            service.pop("command", None)
    for flag, key in (("user", "user"), ("workdir", "working_dir")):
        if flags.string(flag):
            given[key] = flags.string(flag)
    for flag, key in (("cap-add", "cap_add"), ("cap-drop", "cap_drop"), ("volume", "volumes"), ("label", "labels")):
        if flags.many(flag):
            given[key] = flags.many(flag)
    variables: dict[str, str | None] = {}
    for path in flags.many("env-from-file"):
        try:
            variables |= dotenv.read(Path(path), of.environment.get)
        except OSError as e:
            raise CommandError(f"open {path}: {(e.strerror or '').lower()}") from None
    for entry in flags.many("env"):
        key, equals, value = entry.partition("=")
        variables[key] = value if equals else of.environment.get(key)
    if variables:
        given["environment"] = {key: value for key, value in variables.items() if value is not None}
    if not flags.boolean("service-ports"):
        service.pop("ports", None)
    if flags.many("publish"):
        if flags.boolean("service-ports"):
            raise CommandError("--service-ports and --publish are incompatible")
        given["ports"] = flags.many("publish")
    service.pop("container_name", None)
    service.pop("restart", None)
    if service.get("deploy"):
        service["deploy"] = {key: value for key, value in service["deploy"].items() if key != "restart_policy"}
    changed = schema.SERVICE.canon(given, f"services.{name}", os.getcwd())
    for key in ("cap_add", "cap_drop"):
        other = "cap_drop" if key == "cap_add" else "cap_add"
        service[other] = [c for c in service.get(other) or () if c not in changed.get(key, ())] or None
    return {key: value for key, value in schema.SERVICE.merge(service, changed).items() if value is not None}


def _body(context: Context, of: Project, name: str, service: JSON, flags: Values, *, tty: bool) -> JSON:
    image_id = ""
    try:
        image_id = context.client.images.inspect(of.image(name))["Id"]
    except errdefs.NotFound:
        pass  # the creation says it better
    around = loading.executor(context, of, loading.progress(context, "", quiet=True)).around(image_id)
    own = {labels.ONE_OFF: "True", labels.SLUG: secrets.token_hex(32)}
    body = containers.body(of, name, service, around, own=own)
    if not flags.boolean("use-aliases"):
        for endpoint in body["NetworkingConfig"]["EndpointsConfig"].values():
            endpoint.pop("Aliases", None)
    detach = flags.boolean("detach")
    interactive = flags.boolean("interactive") and not detach
    changes: dict[str, Any] = {
        "Tty": tty, "OpenStdin": interactive, "StdinOnce": interactive, "AttachStdin": interactive,
        "AttachStdout": not detach, "AttachStderr": not detach,
    }  # fmt: skip
    body |= changes
    body["HostConfig"]["AutoRemove"] = flags.boolean("rm")
    if tty:
        terminal.check_tty(True, True)
        body["HostConfig"]["ConsoleSize"] = list(terminal.size())
    return body


COMMAND = Command(
    "[OPTIONS] SERVICE [COMMAND] [ARGS...]",
    "Run a one-off command on a service",
    run,
    flags=(
        ("build", "", "bool", False, "Build image before starting container"),
        ("cap-add", "", "list", (), "Add Linux capabilities"),
        ("cap-drop", "", "list", (), "Drop Linux capabilities"),
        ("detach", "d", "bool", False, "Run container in background and print container ID"),
        ("entrypoint", "", "string", "", "Override the entrypoint of the image"),
        ("env", "e", "stringArray", (), "Set environment variables"),
        ("env-from-file", "", "stringArray", (), "Set environment variables from file"),
        ("interactive", "i", "bool", True, "Keep STDIN open even if not attached (default true)"),
        ("label", "l", "stringArray", (), "Add or override a label"),
        ("name", "", "string", "", "Assign a name to the container"),
        ("no-deps", "", "bool", False, "Don't start linked services"),
        ("no-tty", "T", "bool", False, "Disable pseudo-TTY allocation (default: auto-detected)"),
        ("publish", "p", "stringArray", (), "Publish a container's port(s) to the host"),
        ("pull", "", "string", "policy", 'Pull image before running ("always"|"missing"|"never") (default "policy")'),
        ("quiet", "q", "bool", False, "Don't print anything to STDOUT"),
        ("quiet-build", "", "bool", False, "Suppress progress output from the build process"),
        ("quiet-pull", "", "bool", False, "Pull without printing progress information"),
        ("remove-orphans", "", "bool", False, "Remove containers for services not defined in the Compose file"),
        ("rm", "", "bool", False, "Automatically remove the container when it exits"),
        (
            "service-ports",
            "P",
            "bool",
            False,
            "Run command with all service's ports enabled and mapped to the host",
        ),
        ("tty", "t", "bool", True, "Allocate a pseudo-TTY", True),
        (
            "use-aliases",
            "",
            "bool",
            False,
            "Use the service's network useAliases in the network(s) the container connects to",
        ),
        ("user", "u", "string", "", "Run as specified username or uid"),
        ("volume", "v", "stringArray", (), "Bind mount a volume"),
        ("workdir", "w", "string", "", "Working directory inside the container"),
    ),
    args=AT_LEAST_ONE,
    validators={"env": environment.parse_env},
    renamed={"no-TTY": "no-tty", "volumes": "volume", "labels": "label"},
    interspersed=False,
)

"""`rorqual compose down`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from rorqual import errdefs
from rorqual.cli.command import ANY_ARGS, Command, Context
from rorqual.cli.commands.compose import loading
from rorqual.cli.commands.compose.progress import Progress
from rorqual.cli.errors import CommandError
from rorqual.cli.flags import Values
from rorqual.compose import observe
from rorqual.compose.project import Project


def run(context: Context, flags: Values, args: list[str]) -> None:
    images = flags.string("rmi")
    if images not in ("", "all", "local"):
        raise CommandError(f'invalid value for --rmi: "{images}"')
    of = loading.known(context)
    loading.check_services(of, args)
    take_down(
        context,
        of,
        args,
        images=images,
        volumes=flags.boolean("volumes"),
        orphans=flags.boolean("remove-orphans") or loading.is_set("COMPOSE_REMOVE_ORPHANS", of),
        timeout_s=loading.timeout(flags),
    )


def take_down(
    context: Context,
    of: Project,
    services: list[str],
    *,
    images: str = "",
    volumes: bool = False,
    orphans: bool = False,
    timeout_s: int | None = None,
) -> None:
    """Containers, then networks and what else is asked for; of all services when none is named."""
    client = context.client
    ours = {*of.services, *of.disabled}
    every = observe.everything if orphans or not of.files else observe.containers
    found = [seen for seen in every(client, of.name, services=services) if orphans or seen.service in ours]
    with loading.progress(context, "Running") as shown:
        loading.executor(context, of, shown, timeout_s=timeout_s).remove(found, volumes=volumes)
        there = [] if services else observe.networks(client, of.name)
        used = _volumes(context, of, services)
        if not services and not found and not there and not (volumes and used):
            context.err(f'WARN[0000] Warning: No resource found to remove for project "{of.name}".')
        for network in there:
            _remove_network(context, shown, network)
        if volumes:
            for name in sorted(used):
                _remove(shown, "Volume", name, partial(client.volumes.remove, name))
        for name in dict.fromkeys(_images(of, images, services)):
            _remove(shown, "Image", name, partial(client.images.remove, name))


def _volumes(context: Context, of: Project, services: list[str]) -> set[str]:
    """The project's own; where it has a file, those that the file declares alone, others are somebody's data."""
    if not of.files:
        return set() if services else {volume["Name"] for volume in observe.volumes(context.client, of.name)}
    declared = {key: volume["name"] for key, volume in of.volumes.items() if not volume.get("external")}
    every = {**of.disabled, **of.services}
    wanted = [mount.get("source") for name in services for mount in every[name].get("volumes") or ()]
    there = {volume["Name"] for volume in observe.volumes(context.client, of.name)}
    return {name for key, name in declared.items() if (not services or key in wanted) and name in there}


def _images(of: Project, which: str, services: list[str]) -> list[str]:
    if not which:
        return []
    every = {**of.disabled, **of.services}
    return [
        of.image(name)
        for name, service in every.items()
        if (not services or name in services) and (which == "all" or not service.get("image"))
    ]


def _remove_network(context: Context, shown: Progress, network: dict[str, object]) -> None:
    name = str(network["Name"])
    shown("Network", name, "Removing")
    try:
        context.client.networks.remove(str(network["Id"]))
    except errdefs.NotFound:
        pass  # somebody else removed it meanwhile: it is gone
    except (errdefs.Conflict, errdefs.PermissionDenied) as e:
        if "active endpoints" not in str(e):
            raise
        shown("Network", name, "Resource is still in use")
        return
    shown("Network", name, "Removed")


def _remove(shown: Progress, kind: str, name: str, act: Callable[[], object]) -> None:
    shown(kind, name, "Removing")
    try:
        act()
    except errdefs.NotFound:
        shown(kind, name, "Warning: No resource found to remove")
    except errdefs.Conflict:
        shown(kind, name, "Resource is still in use")
    else:
        shown(kind, name, "Removed")


COMMAND = Command(
    "[OPTIONS] [SERVICES]",
    "Stop and remove containers, networks",
    run,
    flags=(
        ("remove-orphans", "", "bool", False, "Remove containers for services not defined in the Compose file"),
        (
            "rmi",
            "",
            "string",
            "",
            'Remove images used by services. "local" remove only images that don\'t have a custom tag ("local"|"all")',
        ),
        ("timeout", "t", "int", 0, "Specify a shutdown timeout in seconds"),
        (
            "volumes",
            "v",
            "bool",
            False,
            'Remove named volumes declared in the "volumes" section of the Compose file and anonymous volumes attached'
            " to containers",
        ),
    ),
    args=ANY_ARGS,
    renamed={"volume": "volumes"},
)

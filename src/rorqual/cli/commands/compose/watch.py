"""`rorqual compose watch`: files of the host go into containers, and images are built anew, as they change."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from rorqual import errdefs
from rorqual.cli.command import ANY_ARGS, Command, Context
from rorqual.cli.commands.compose import imaging, loading
from rorqual.cli.errors import CommandError, Exit
from rorqual.cli.flags import Values
from rorqual.compose import hooks, labels, observe, watch
from rorqual.compose.project import Project
from rorqual.compose.watch import Change

_EVERY_S = 0.3


def run(context: Context, flags: Values, args: list[str]) -> None:
    of = loading.load(context, args)
    loading.check_services(of, args)
    rules = [rule for rule in watch.triggers(of.selected(args)) if not args or rule.service in args]
    if not rules:
        raise CommandError(
            "none of the selected services is configured for watch, consider setting a 'develop' section"
        )
    if not flags.boolean("no-up"):
        imaging.ensure(context, of.selected(args), build=True, quiet_build=flags.boolean("quiet"))
        _up(context, of.selected(args), [])
    watcher = watch.Watcher(rules)
    _say(context, "Watch enabled")
    _act(context, of, flags, watcher.everything())
    while True:
        time.sleep(_EVERY_S)
        found = watcher.scan()
        while found and (more := _more(watcher)):  # an editor that saves, or a checkout: until it is done
            found += more
        _act(context, of, flags, watch.merged(found))


def _say(context: Context, text: str) -> None:
    """At once, to a pipe too."""
    context.out(text)
    sys.stdout.flush()


def _more(watcher: watch.Watcher) -> list[Change]:
    time.sleep(_EVERY_S)
    return watcher.scan()


def _up(context: Context, of: Project, services: Sequence[str]) -> None:
    scale = loading.as_there(context, of, ())
    with loading.progress(context, "Running") as shown:
        executor = loading.executor(context, of, shown, services=tuple(services), scale=scale)
        executor.ensure_resources()
        executor.create()
        executor.start()


def _act(context: Context, of: Project, flags: Values, changes: Sequence[Change]) -> None:
    """What fails is told, and watching goes on."""
    rebuilt: set[str] = set()
    for change in changes:
        rule = change.trigger
        try:
            if rule.action == "rebuild":
                if rule.service not in rebuilt:
                    rebuilt.add(rule.service)
                    _rebuild(context, of, flags, rule.service)
            else:
                _sync(context, of, change)
        except (errdefs.Error, Exit, OSError) as e:
            context.err(f'Failed to update service "{rule.service}": {e}')


def _rebuild(context: Context, of: Project, flags: Values, name: str) -> None:
    _say(context, f'Rebuilding service "{name}" after changes were detected...')
    only = of.selected([name], dependencies=False)
    imaging.build_one(context, only, name, quiet=flags.boolean("quiet"))
    _up(context, only, [name])
    if flags.boolean("prune"):
        context.client.images.prune({"dangling": ["true"], "label": [f"{labels.PROJECT}={of.name}"]})
    _say(context, f'service "{name}" successfully built')


def _sync(context: Context, of: Project, change: Change) -> None:
    rule = change.trigger
    client = context.client
    found = observe.containers(client, of.name, all=False, services=[rule.service])
    if rule.action.startswith("sync"):
        count = len(change.changed) + len(change.gone)
        _say(context, f'Syncing service "{rule.service}" after {count} changes were detected')
        data = watch.archive(change) if change.changed else b""
        for seen in found:
            if data:
                client.containers.put_archive(seen.id, "/", data)
            if change.gone:
                gone = [rule.in_container(path) for path in change.gone]
                hooks.run(client, seen, [{"command": ["rm", "-rf", "--", *gone], "user": "0"}])
            if rule.action == "sync+exec" and rule.exec:
                hooks.run(client, seen, [rule.exec])
    if rule.action.endswith("restart"):
        for seen in found:
            client.containers.restart(seen.id)
        _say(context, f'service(s) ["{rule.service}"] restarted')


COMMAND = Command(
    "[SERVICE...]",
    "Watch build context for service and rebuild/refresh containers when files are updated",
    run,
    flags=(
        ("no-up", "", "bool", False, "Do not build & start services before watching"),
        ("prune", "", "bool", True, "Prune dangling images on rebuild (default true)"),
        ("quiet", "", "bool", False, "hide build output"),
    ),
    args=ANY_ARGS,
)

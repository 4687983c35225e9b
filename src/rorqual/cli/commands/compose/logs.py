"""`rorqual compose logs`."""

from __future__ import annotations

import threading

from rorqual import errdefs
from rorqual.cli.command import ANY_ARGS, Command, Context
from rorqual.cli.commands.compose import loading
from rorqual.cli.commands.compose.following import Printer, colored, copy
from rorqual.cli.flags import Values
from rorqual.cli.timestamps import to_timestamp
from rorqual.compose import observe
from rorqual.compose.observe import Seen


def run(context: Context, flags: Values, args: list[str]) -> None:
    of = loading.known(context)
    loading.check_services(of, args)
    found = observe.containers(context.client, of.name, services=args)
    if index := flags.integer("index"):
        found = [seen for seen in found if seen.number == index]
    printer = Printer(plain=flags.boolean("no-log-prefix"), color=colored(context, no_color=flags.boolean("no-color")))
    printer.know(seen.short(of.name) for seen in found)
    follow = flags.boolean("follow")
    failed: list[BaseException] = []

    def show(seen: Seen) -> None:
        try:
            copy(
                context.connect(context),
                seen,
                seen.short(of.name),
                printer,
                follow=follow,
                since=to_timestamp("since", flags.string("since")),
                until=to_timestamp("until", flags.string("until")),
                tail=flags.string("tail"),
                timestamps=flags.boolean("timestamps"),
            )
        except errdefs.NotFound:
            return  # removed meanwhile
        except (errdefs.Error, OSError) as e:
            failed.append(e)

    if not follow:
        for seen in found:
            show(seen)
    else:
        threads = [threading.Thread(target=show, args=(seen,), daemon=True) for seen in found]
        for thread in threads:
            thread.start()
        while not failed and any(thread.is_alive() for thread in threads):
            for thread in threads:
                thread.join(0.1)
    if failed:
        raise failed[0]


COMMAND = Command(
    "[OPTIONS] [SERVICE...]",
    "View output from containers",
    run,
    flags=(
        ("follow", "f", "bool", False, "Follow log output"),
        ("index", "", "int", 0, "index of the container if service has multiple replicas"),
        ("no-color", "", "bool", False, "Produce monochrome output"),
        ("no-log-prefix", "", "bool", False, "Don't print prefix in logs"),
        (
            "since",
            "",
            "string",
            "",
            "Show logs since timestamp (e.g. 2013-01-02T13:23:37Z) or relative (e.g. 42m for 42 minutes)",
        ),
        (
            "tail",
            "n",
            "string",
            "all",
            'Number of lines to show from the end of the logs for each container (default "all")',
        ),
        ("timestamps", "t", "bool", False, "Show timestamps"),
        (
            "until",
            "",
            "string",
            "",
            "Show logs before a timestamp (e.g. 2013-01-02T13:23:37Z) or relative (e.g. 42m for 42 minutes)",
        ),
    ),
    args=ANY_ARGS,
)

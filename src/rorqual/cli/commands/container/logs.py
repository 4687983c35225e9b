"""`rorqual logs`."""

from __future__ import annotations

from rorqual import errdefs
from rorqual.cli.command import ONE_ARG, Command, Context
from rorqual.cli.streams import write_all, write_pieces
from rorqual.cli.timestamps import to_timestamp
from rorqual.client.demux import STDERR, SYSTEM_ERROR, Demultiplexer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values
    from rorqual.client.http1 import Response


def run(context: Context, flags: Values, args: list[str]) -> None:
    info = context.client.containers.inspect(args[0])
    response = context.client.containers.logs(
        info["Id"],
        follow=flags.boolean("follow"),
        since=to_timestamp("since", flags.string("since")),
        until=to_timestamp("until", flags.string("until")),
        timestamps=flags.boolean("timestamps"),
        tail=flags.string("tail"),
        details=flags.boolean("details"),
    )
    if info["Config"]["Tty"]:
        for piece in response.chunks():
            write_all(1, memoryview(piece))
    else:
        copy_frames(response)


def copy_frames(response: Response) -> None:
    """Write a multiplexed body to stdout and stderr as it comes."""
    demux = Demultiplexer()
    for piece in response.chunks():
        run_of: list[memoryview] = []
        current = -1
        for stream, payload in demux.feed(memoryview(piece)):
            if stream == SYSTEM_ERROR:
                raise errdefs.Internal(f"error from daemon in stream: {bytes(payload).decode('utf-8', 'replace')}")
            fd = 2 if stream == STDERR else 1
            if fd != current or len(run_of) == 512:
                if run_of:
                    write_pieces(current, run_of)
                run_of, current = [], fd
            run_of.append(payload)
        if run_of:
            write_pieces(current, run_of)


COMMAND = Command(
    "[OPTIONS] CONTAINER",
    "Fetch the logs of a container",
    run,
    flags=(
        ("details", "", "bool", False, "Show extra details provided to logs"),
        ("follow", "f", "bool", False, "Follow log output"),
        (
            "since",
            "",
            "string",
            "",
            'Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)',
        ),
        ("tail", "n", "string", "all", 'Number of lines to show from the end of the logs (default "all")'),
        ("timestamps", "t", "bool", False, "Show timestamps"),
        (
            "until",
            "",
            "string",
            "",
            'Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)',
        ),
    ),
    args=ONE_ARG,
    aliases="container logs, logs",
)

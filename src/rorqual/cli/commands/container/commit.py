"""`rorqual commit`."""

from __future__ import annotations

from rorqual.cli.command import Command, Context
from rorqual.cli.references import split_reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    repository, tag = split_reference(args[1]) if len(args) > 1 else ("", "")
    query = {
        "repo": repository or None,
        "tag": tag or None,
        "comment": flags.string("message") or None,
        "author": flags.string("author") or None,
        "changes": flags.many("change") or None,
        "pause": flags.boolean("pause"),
    }
    context.out(context.client.containers.commit(args[0], query)["Id"])


COMMAND = Command(
    "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    "Create a new image from a container's changes",
    run,
    flags=(
        ("author", "a", "string", "", 'Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")'),
        ("change", "c", "list", (), "Apply Dockerfile instruction to the created image"),
        ("message", "m", "string", "", "Commit message"),
        ("pause", "p", "bool", True, "Pause container during commit (default true)"),
    ),
    args=(1, 2),
    aliases="container commit, commit",
)

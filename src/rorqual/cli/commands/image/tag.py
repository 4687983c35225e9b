"""`rorqual tag`."""

from __future__ import annotations

from rorqual.cli.command import TWO_ARGS, Command, Context
from rorqual.cli.errors import CommandError
from rorqual.cli.references import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    from rorqual import errdefs

    try:
        ref = parse(args[1])
    except errdefs.InvalidArgument as e:
        raise CommandError(f'Error parsing reference: "{args[1]}" is not a valid repository/tag: {e}') from e
    if ref.digest is not None:
        raise CommandError("refusing to create a tag with a digest reference")
    ref = ref.with_default_tag()
    context.client.images.tag(args[0], ref.familiar_name, ref.tag or "")


COMMAND = Command(
    "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    run,
    args=TWO_ARGS,
    aliases="image tag, tag",
)

"""`rorqual push`."""

from __future__ import annotations

import os
import sys

from rorqual.cli.command import ONE_ARG, Command, Context
from rorqual.cli.commands.image.trust import refuse_content_trust
from rorqual.cli.errors import CommandError
from rorqual.cli.progress import display
from rorqual.cli.references import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    refuse_content_trust(flags)
    ref = parse(args[0])
    if flags.boolean("all-tags"):
        if not ref.is_name_only:
            raise CommandError("tag can't be used with --all-tags/-a")
    elif ref.is_name_only:
        ref = ref.with_default_tag()
        if not flags.boolean("quiet"):
            context.out(f"Using default tag: {ref.tag}")
    messages = context.client.images.push(
        ref.familiar_name,
        ref.tag or "",
        auth=context.config.auth_header(ref.domain),
        platform=flags.string("platform"),
    )
    sys.stdout.flush()
    if flags.boolean("quiet"):
        with open(os.devnull, "w", encoding="ascii") as sink:
            display(messages, sink)
        context.out(str(ref))
    else:
        display(messages, sys.stdout)


COMMAND = Command(
    "[OPTIONS] NAME[:TAG]",
    "Upload an image to a registry",
    run,
    flags=(
        ("all-tags", "a", "bool", False, "Push all tags of an image to the repository"),
        ("disable-content-trust", "", "bool", True, "Skip image signing (default true)"),
        (
            "platform",
            "",
            "string",
            "",
            "Push a platform-specific manifest as a single-platform image to the registry.\n"
            "Image index won't be pushed, meaning that other manifests, including attestations won't be preserved.\n"
            "'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)",
        ),
        ("quiet", "q", "bool", False, "Suppress verbose output"),
    ),
    args=ONE_ARG,
    aliases="image push, push",
)

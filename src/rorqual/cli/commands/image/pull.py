"""`rorqual pull`."""

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
        tag = ""
    else:
        if ref.is_name_only:
            ref = ref.with_default_tag()
            if not flags.boolean("quiet"):
                context.out(f"Using default tag: {ref.tag}")
        tag = str(ref.digest) if ref.digest else ref.tag or ""
    messages = context.client.images.pull(
        ref.familiar_name, tag, platform=flags.string("platform"), auth=context.config.auth_header(ref.domain)
    )
    sys.stdout.flush()
    if flags.boolean("quiet"):
        with open(os.devnull, "w", encoding="ascii") as sink:
            display(messages, sink)
    else:
        display(messages, sys.stdout)
    context.out(str(ref))


COMMAND = Command(
    "[OPTIONS] NAME[:TAG|@DIGEST]",
    "Download an image from a registry",
    run,
    flags=(
        ("all-tags", "a", "bool", False, "Download all tagged images in the repository"),
        ("disable-content-trust", "", "bool", True, "Skip image verification (default true)"),
        ("platform", "", "string", "", "Set platform if server is multi-platform capable"),
        ("quiet", "q", "bool", False, "Suppress verbose output"),
    ),
    args=ONE_ARG,
    aliases="image pull, pull",
)

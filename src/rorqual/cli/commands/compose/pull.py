"""`rorqual compose pull`."""

from __future__ import annotations

from rorqual import errdefs
from rorqual.cli.command import ANY_ARGS, Command, Context
from rorqual.cli.commands.compose import imaging, loading
from rorqual.cli.errors import CommandError
from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    policy = flags.string("policy")
    if policy not in ("", "missing", "always"):
        raise CommandError(f'invalid --policy "{policy}"')
    of = loading.load(context).selected(args, dependencies=flags.boolean("include-deps"))
    images: dict[str, str] = {}
    for name, service in of.services.items():
        if not service.get("image") or (service.get("build") and flags.boolean("ignore-buildable")):
            continue
        if service.get("pull_policy") in ("never", "build") and not policy:
            continue
        if (policy or service.get("pull_policy")) in ("missing", "if_not_present"):
            try:
                context.client.images.inspect(of.image(name))
            except errdefs.NotFound:
                pass  # to be pulled
            else:
                continue
        images.setdefault(of.image(name), name)
    imaging.pull_all(
        context,
        of,
        images,
        quiet=flags.boolean("quiet"),
        ignore_failures=flags.boolean("ignore-pull-failures"),
    )


COMMAND = Command(
    "[OPTIONS] [SERVICE...]",
    "Pull service images",
    run,
    flags=(
        ("ignore-buildable", "", "bool", False, "Ignore images that can be built"),
        ("ignore-pull-failures", "", "bool", False, "Pull what it can and ignores images with pull failures"),
        ("include-deps", "", "bool", False, "Also pull services declared as dependencies"),
        ("no-parallel", "", "bool", True, "DEPRECATED disable parallel pulling", True),
        ("parallel", "", "bool", True, "DEPRECATED pull multiple images in parallel", True),
        ("policy", "", "string", "", 'Apply pull policy ("missing"|"always")'),
        ("quiet", "q", "bool", False, "Pull without printing progress information"),
    ),
    args=ANY_ARGS,
)

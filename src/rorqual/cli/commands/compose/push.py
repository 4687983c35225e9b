"""`rorqual compose push`."""

from __future__ import annotations

from rorqual import errdefs
from rorqual.cli.command import ANY_ARGS, Command, Context
from rorqual.cli.commands.compose import imaging, loading
from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    of = loading.load(context).selected(args, dependencies=flags.boolean("include-deps"))
    failed: errdefs.Error | None = None
    with loading.progress(context, "Pushing", quiet=flags.boolean("quiet")) as shown:
        for name, service in of.services.items():
            if not service.get("build") or not service.get("image"):
                continue
            for image in (of.image(name), *(service["build"].get("tags") or ())):
                shown("Image", image, "Pushing")
                try:
                    imaging.push(context, image)
                except errdefs.Error as e:
                    shown("Image", image, "Error")
                    failed = failed or e
                else:
                    shown("Image", image, "Pushed")
    if failed is not None and not flags.boolean("ignore-push-failures"):
        raise failed


COMMAND = Command(
    "[OPTIONS] [SERVICE...]",
    "Push service images",
    run,
    flags=(
        ("ignore-push-failures", "", "bool", False, "Push what it can and ignores images with push failures"),
        ("include-deps", "", "bool", False, "Also push images of services declared as dependencies"),
        ("quiet", "q", "bool", False, "Push without printing progress information"),
    ),
    args=ANY_ARGS,
)

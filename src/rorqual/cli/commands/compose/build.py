"""`rorqual compose build`."""

from __future__ import annotations

from rorqual.cli.command import ANY_ARGS, Command, Context
from rorqual.cli.commands.compose import imaging, loading
from rorqual.cli.errors import CommandError
from rorqual.cli.flags import Values
from rorqual.compose.project import order


def run(context: Context, flags: Values, args: list[str]) -> None:
    for name in ("builder", "check", "print", "provenance", "sbom", "ssh"):
        if flags.changed(name):
            raise CommandError(f"--{name} needs BuildKit, which this engine does not have")
    of = loading.load(context, args).selected(args, dependencies=flags.boolean("with-dependencies"))
    names = [name for name in order(of.services) if of.services[name].get("build")]
    if not names:
        context.err("WARN[0000] No services to build")
    with loading.progress(context, "Building", quiet=flags.boolean("quiet")) as shown:
        for name in names:
            shown("Image", of.image(name), "Building")
            imaging.build_one(
                context,
                of,
                name,
                quiet=flags.boolean("quiet"),
                no_cache=flags.boolean("no-cache"),
                pull=flags.boolean("pull"),
                memory=flags.integer("memory"),
                arguments=flags.many("build-arg"),
            )
            shown("Image", of.image(name), "Built")
            if flags.boolean("push"):
                imaging.push(context, of.image(name))


COMMAND = Command(
    "[OPTIONS] [SERVICE...]",
    "Build or rebuild services",
    run,
    flags=(
        ("build-arg", "", "stringArray", (), "Set build-time variables for services"),
        ("builder", "", "string", "", "Set builder to use"),
        ("check", "", "bool", False, "Check build configuration"),
        ("memory", "m", "bytes", 0, "Set memory limit for the build container. Not supported by BuildKit."),
        ("no-cache", "", "bool", False, "Do not use cache when building the image"),
        ("print", "", "bool", False, "Print equivalent bake file"),
        ("provenance", "", "string", "", "Add a provenance attestation"),
        ("pull", "", "bool", False, "Always attempt to pull a newer version of the image"),
        ("push", "", "bool", False, "Push service images"),
        ("quiet", "q", "bool", False, "Suppress the build output"),
        ("sbom", "", "string", "", "Add a SBOM attestation"),
        (
            "ssh",
            "",
            "string",
            "",
            "Set SSH authentications used when building service images. (use 'default' for using your default SSH"
            " Agent)",
        ),
        ("compress", "", "bool", True, "Compress the build context using gzip. DEPRECATED", True),
        ("force-rm", "", "bool", True, "Always remove intermediate containers. DEPRECATED", True),
        ("no-rm", "", "bool", False, "Do not remove intermediate containers. DEPRECATED", True),
        ("parallel", "", "bool", True, "Build images in parallel. DEPRECATED", True),
        ("progress", "", "string", "", "Set type of ui output. DEPRECATED", True),
        ("with-dependencies", "", "bool", False, "Also build dependencies (transitively)"),
    ),
    args=ANY_ARGS,
)

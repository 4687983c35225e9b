"""`rorqual swarm ca`."""

from __future__ import annotations

from pathlib import Path

from rorqual.cli.command import Command, Context
from rorqual.cli.commands.swarm import settings
from rorqual.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    swarm = context.client.swarm
    found = swarm.inspect()
    if not flags.boolean("rotate"):
        for flag in ("ca-cert", "ca-key", "cert-expiry", "external-ca"):
            if flags.changed(flag):
                raise CommandError(f"`--{flag}` flag requires the `--rotate` flag to update the CA")
        _show(context, found)
        return
    if flags.changed("external-ca") and not flags.changed("ca-cert"):
        raise CommandError(
            "rotating to an external CA requires the `--ca-cert` flag to specify the external CA's cert - to add an "
            "external CA with the current root CA certificate, use the `update` command instead"
        )
    if flags.changed("ca-cert") and not flags.changed("ca-key") and not flags.changed("external-ca"):
        raise CommandError(
            "the --ca-cert flag requires that a --ca-key flag and/or --external-ca flag be provided as well"
        )
    spec = settings.changed(found["Spec"], flags)
    config = spec["CAConfig"]
    if flags.changed("ca-cert"):
        config["SigningCACert"] = flags.string("ca-cert")
        config["SigningCAKey"] = flags.string("ca-key") if flags.changed("ca-key") else ""
    else:
        config["ForceRotate"] = config.get("ForceRotate", 0) + 1
    # The only manager has issued its own certificate anew when this is answered: there is nothing to wait for.
    swarm.update(found["Version"]["Index"], spec)
    if not flags.boolean("detach") and not flags.boolean("quiet"):
        _show(context, swarm.inspect())


def _show(context: Context, swarm: settings.JSON) -> None:
    root = swarm["TLSInfo"].get("TrustRoot")
    if not root:
        raise CommandError("No CA information available")
    context.out(root.strip())


def _pem(path: str) -> str:
    """The file's text. Raises: ValueError, as a flag's value that cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as e:
        raise ValueError(f"open {path}: {(e.strerror or '').lower()}") from None


COMMAND = Command(
    "[OPTIONS]",
    "Display and rotate the root CA",
    run,
    flags=(
        ("ca-cert", "", "pem-file", "", "Path to the PEM-formatted root CA certificate to use for the new cluster"),
        ("ca-key", "", "pem-file", "", "Path to the PEM-formatted root CA key to use for the new cluster"),
        settings.CERT_EXPIRY,
        (
            "detach",
            "d",
            "bool",
            False,
            "Exit immediately instead of waiting for the root rotation to converge",
        ),
        settings.EXTERNAL_CA,
        ("quiet", "q", "bool", False, "Suppress progress output"),
        (
            "rotate",
            "",
            "bool",
            False,
            "Rotate the swarm CA - if no certificate or key are provided, new ones will be generated",
        ),
    ),
    validators={"ca-cert": _pem, "ca-key": _pem},
)

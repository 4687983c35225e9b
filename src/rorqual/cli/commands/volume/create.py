"""`rorqual volume create`."""

from __future__ import annotations

from typing import Any

from rorqual.cli.command import AT_MOST_ONE, Command, Context
from rorqual.cli.errors import CommandError
from rorqual.cli.options.environment import parse_label
from rorqual.cli.options.limits import to_map

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values

FLAGS = (
    (
        "availability",
        "",
        "string",
        "active",
        'Cluster Volume availability ("active", "pause", "drain") (default "active")',
    ),
    ("driver", "d", "string", "local", 'Specify volume driver name (default "local")'),
    ("group", "", "string", "", "Cluster Volume group (cluster volumes)"),
    ("label", "", "list", (), "Set metadata for a volume"),
    ("limit-bytes", "", "bytes", 0, "Minimum size of the Cluster Volume in bytes"),
    ("opt", "o", "map", (), "Set driver specific options (default map[])"),
    ("required-bytes", "", "bytes", 0, "Maximum size of the Cluster Volume in bytes"),
    ("scope", "", "string", "single", 'Cluster Volume access scope ("single", "multi") (default "single")'),
    ("secret", "", "map", (), "Cluster Volume secrets (default map[])"),
    (
        "sharing",
        "",
        "string",
        "none",
        'Cluster Volume access sharing ("none", "readonly", "onewriter", "all") (default "none")',
    ),
    ("topology-preferred", "", "list", (), "A topology that the Cluster Volume would be preferred in"),
    ("topology-required", "", "list", (), "A topology that the Cluster Volume must be accessible from"),
    ("type", "", "string", "block", 'Cluster Volume access type ("mount", "block") (default "block")'),
)


def run(context: Context, flags: Values, args: list[str]) -> None:
    name = args[0] if args else ""
    if flags.string("name"):
        if name:
            raise CommandError(
                "conflicting options: cannot specify a volume-name through both --name and as a positional arg"
            )
        name = flags.string("name")
    body: dict[str, Any] = {
        "Name": name,
        "Driver": flags.string("driver"),
        "DriverOpts": to_map(flags.many("opt")),
        "Labels": to_map(flags.many("label")),
    }
    if any(flags.changed(flag) for flag in _CLUSTER):
        body["ClusterVolumeSpec"] = _cluster(flags)
    context.out(context.client.volumes.create(body)["Name"])


_CLUSTER = ("group", "scope", "sharing", "availability", "type", "secret", "limit-bytes", "required-bytes")


def _cluster(flags: Values) -> dict[str, Any]:
    """ClusterVolumeSpec of the Engine API."""
    access: dict[str, Any] = {"Scope": flags.string("scope"), "Sharing": flags.string("sharing")}
    kind = {"mount": "MountVolume", "block": "BlockVolume"}.get(flags.string("type"))
    if kind:
        access[kind] = {}
    secrets = to_map(flags.many("secret")) or {}
    return {
        "Group": flags.string("group"),
        "AccessMode": access,
        "Availability": flags.string("availability"),
        "CapacityRange": {
            "RequiredBytes": flags.integer("required-bytes"),
            "LimitBytes": flags.integer("limit-bytes"),
        },
        "Secrets": [{"Key": key, "Secret": secrets[key]} for key in sorted(secrets)],
        "AccessibilityRequirements": {
            "Requisite": [{"Segments": _segments(t)} for t in flags.many("topology-required")],
            "Preferred": [{"Segments": _segments(t)} for t in flags.many("topology-preferred")],
        },
    }


def _segments(text: str) -> dict[str, str]:
    return dict(part.partition("=")[::2] for part in text.split(","))


COMMAND = Command(
    "[OPTIONS] [VOLUME]",
    "Create a volume",
    run,
    flags=(*FLAGS, ("name", "", "string", "", "Specify volume name", True)),
    args=AT_MOST_ONE,
    validators={"label": parse_label},
)

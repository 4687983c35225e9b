"""`rorqual registry serve`: becomes the registry's process, which serves until Ctrl-C."""

from __future__ import annotations

import os
import sys

from rorqual.cli.command import Command, Context
from rorqual.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values

_MODULE = "rorqual.daemon.registry"
_PASSED_ON = ("listen", "htpasswd", "tls-cert", "tls-key")


def run(context: Context, flags: Values, args: list[str]) -> None:
    info = context.client.system.info()
    address, root = (info.get("Containerd") or {}).get("Address", ""), info.get("DockerRootDir", "")
    if not address or not os.path.isdir(f"{root}/content"):
        raise CommandError("the engine's content store is not on this machine: run this beside rorquald, as root")
    argv = [sys.executable, "-m", _MODULE, f"--containerd={address}", f"--root={root}"]
    argv += [f"--{name}={value}" for name in _PASSED_ON if (value := flags.string(name))]
    argv += [f"--{name}" for name in ("no-local", "read-only") if flags.boolean(name)]
    sys.stdout.flush()
    os.execv(sys.executable, argv)


COMMAND = Command(
    "[OPTIONS]",
    "Serve the engine's content store as a registry (OCI distribution 1.1) until interrupted.\n\n"
    "Images of the engine can be pulled; what is pushed is kept beside them, and shares their blobs.",
    run,
    flags=(
        ("htpasswd", "", "string", "", "File with users and bcrypt passwords (htpasswd -B)"),
        ("listen", "l", "string", "127.0.0.1:5000", "Address to listen on"),
        ("no-local", "", "bool", False, "Serve only what was pushed, not the engine's images"),
        ("read-only", "", "bool", False, "Refuse pushes and deletions"),
        ("tls-cert", "", "string", "", "Certificate (PEM) to serve TLS with"),
        ("tls-key", "", "string", "", "Its key (PEM)"),
    ),
)

"""`rorqual login`."""

from __future__ import annotations

import os
import sys

from rorqual.cli.command import AT_MOST_ONE, Command, Context
from rorqual.cli.config import DOCKER_HUB
from rorqual.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    server = args[0] if args else DOCKER_HUB
    if server in ("docker.io", "index.docker.io", "registry-1.docker.io"):
        server = DOCKER_HUB
    elif server != DOCKER_HUB:
        server = server.removeprefix("http://").removeprefix("https://").partition("/")[0]
    user, password = flags.string("username"), flags.string("password")
    if flags.changed("password") and flags.boolean("password-stdin"):
        raise CommandError("conflicting options: cannot specify both --password and --password-stdin")
    if flags.changed("password"):
        context.err("WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
    if flags.boolean("password-stdin"):
        if not user:
            raise CommandError("the --password-stdin option requires --username to be set")
        password = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    if not user or not password:
        user, password = _ask(context, server, user, password)
    auth = {"username": user, "password": password, "serveraddress": server}
    answer = context.client.system.login(auth)
    if answer.get("IdentityToken"):
        auth.update(password="", identitytoken=answer["IdentityToken"])
    context.config.store(auth)
    if not context.config.text("credsStore"):
        context.err(
            f"WARNING! Your credentials are stored unencrypted in '{context.config.path}'.\n"
            "Configure a credential helper to remove this warning."
        )
    context.out(answer.get("Status") or "Login Succeeded")


def _ask(context: Context, server: str, user: str, password: str) -> tuple[str, str]:
    known = context.config.credentials(server)
    if not user and not password and known.get("username") and known.get("password"):
        context.err("Authenticating with existing credentials...")
        return known["username"], known["password"]
    if not os.isatty(0):
        raise CommandError("Error: Cannot perform an interactive login from a non TTY device")
    if not user:
        default = known.get("username", "")
        sys.stdout.write(f"Username{f' ({default})' if default else ''}: ")
        sys.stdout.flush()
        user = sys.stdin.readline().strip() or default
        if not user:
            raise CommandError("Error: Non-null Username Required")
    if not password:
        import getpass

        password = getpass.getpass("Password: ")
        if not password:
            raise CommandError("Error: Password Required")
    return user, password


COMMAND = Command(
    "[OPTIONS] [SERVER]",
    "Authenticate to a registry.\nDefaults to Docker Hub if no server is specified.",
    run,
    flags=(
        ("password", "p", "string", "", "Password or Personal Access Token (PAT)"),
        ("password-stdin", "", "bool", False, "Take the Password or Personal Access Token (PAT) from stdin"),
        ("username", "u", "string", "", "Username"),
    ),
    args=AT_MOST_ONE,
)

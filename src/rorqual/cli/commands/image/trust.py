"""DOCKER_CONTENT_TRUST: signatures of Notary, which registries no longer serve and current clients no longer check."""

from __future__ import annotations

import os

from rorqual.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def refuse_content_trust(flags: Values) -> None:
    """Raises: CommandError for who asks for a check that would not be made."""
    wanted = os.environ.get("DOCKER_CONTENT_TRUST", "").lower() in ("1", "t", "true")
    if flags.changed("disable-content-trust"):
        wanted = not flags.boolean("disable-content-trust")
    if wanted:
        raise CommandError(
            "content trust is not supported: unset DOCKER_CONTENT_TRUST, or use --disable-content-trust, to go on "
            "without a signature"
        )

"""Who the user is at a registry: the Engine API's X-Registry-Auth header. Source: Engine API, Authentication."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field

from rorqual.errdefs import InvalidArgument
from rorqual.oci.fields import Fields

_MAX_HEADER = 64 << 10


@dataclass(frozen=True, slots=True)
class Credentials:
    """A name and password, an identity (refresh) token, or a ready registry (bearer) token; no secret in its repr."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)
    server_address: str = ""

    @property
    def basic(self) -> str | None:
        """The value of a basic Authorization header, None without a user name."""
        if not self.username or self.username == "<token>":
            return None
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


ANONYMOUS = Credentials()


def parse_header(header: str | None) -> Credentials:
    """The credentials in an X-Registry-Auth header (base64url of JSON, padded or not); anonymous when absent or empty.

    Raises: InvalidArgument with Docker's text.
    """
    if not header:
        return ANONYMOUS
    if len(header) > _MAX_HEADER:
        raise InvalidArgument("invalid X-Registry-Auth header: too long")
    text = header.strip().rstrip("=").replace("+", "-").replace("/", "_")
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidArgument("invalid X-Registry-Auth header: must be a valid base64url-encoded string") from error
    # Old clients send "null" or nothing at all for "no credentials".
    if raw.strip() in (b"", b"null"):
        return ANONYMOUS
    fields = Fields.load(raw, "invalid X-Registry-Auth header", _MAX_HEADER)
    username, password = fields.text("username"), fields.text("password")
    if not username and (auth := fields.text("auth")):
        username, password = _split_auth(auth)
    return Credentials(
        username=username,
        password=password,
        identity_token=fields.text("identitytoken"),
        registry_token=fields.text("registrytoken"),
        server_address=fields.text("serveraddress"),
    )


def _split_auth(auth: str) -> tuple[str, str]:
    """User name and password of the `auth` field of ~/.docker/config.json."""
    try:
        text = base64.b64decode(auth, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise InvalidArgument("invalid X-Registry-Auth header: auth is no base64") from error
    username, colon, password = text.partition(":")
    if not colon:
        raise InvalidArgument("invalid X-Registry-Auth header: auth is no user:password")
    return username, password.rstrip("\0")

"""Image references: `[domain[:port]/]path[:tag][@digest]`, Docker's grammar, normalisation and error texts.

A `Reference` is always normalised: `busybox` is domain `docker.io`, path `library/busybox`. Its familiar form is what
Docker shows to people. Source: github.com/distribution/reference (grammar, texts).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from rorqual.errdefs import InvalidArgument
from rorqual.oci import digest as digests
from rorqual.oci.digest import Digest

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
MAX_PATH_LENGTH = 255

_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_PATH = rf"{_COMPONENT}(?:/{_COMPONENT})*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
_REFERENCE = re.compile(rf"(?:({_DOMAIN})/)?({_PATH})(?::({_TAG}))?(?:@({_DIGEST}))?")
_TAG_ONLY = re.compile(_TAG)
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")
# Far above what the grammar allows to be valid; keeps the regular expressions away from megabytes of input.
_MAX_LENGTH = 4096


@dataclass(frozen=True, slots=True)
class Reference:
    """A normalised reference. `tag` and `digest` may both be there, either, or (name only) neither."""

    domain: str
    path: str
    tag: str | None = None
    digest: Digest | None = None

    @property
    def name(self) -> str:
        """`docker.io/library/busybox`: domain and path."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """`busybox`: the name as Docker shows it."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        rest = self.path.removeprefix(_OFFICIAL)
        return self.path if "/" in rest else rest

    @property
    def suffix(self) -> str:
        """`:tag`, `@digest`, both or nothing."""
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    @property
    def familiar(self) -> str:
        """`busybox:latest`: the whole reference as Docker shows it."""
        return self.familiar_name + self.suffix

    @property
    def is_name_only(self) -> bool:
        return self.tag is None and self.digest is None

    def with_default_tag(self) -> Reference:
        """The same with tag `latest` if it has neither tag nor digest."""
        return replace(self, tag=DEFAULT_TAG) if self.is_name_only else self

    def with_tag(self, tag: str) -> Reference:
        """The same name and digest with `tag`. Raises: InvalidArgument (`invalid tag format`)."""
        return replace(self, tag=check_tag(tag))

    def with_digest(self, digest: str) -> Reference:
        """The same name and tag with `digest`. Raises: InvalidArgument."""
        return replace(self, digest=digests.parse(digest))

    def name_only(self) -> Reference:
        """The name without tag and digest."""
        return Reference(self.domain, self.path)

    def __str__(self) -> str:
        return self.name + self.suffix


def check_tag(tag: str) -> str:
    """`tag` itself. Raises: InvalidArgument (`invalid tag format`)."""
    if not _TAG_ONLY.fullmatch(tag):
        raise InvalidArgument("invalid tag format")
    return tag


def _split_domain(text: str) -> tuple[str, str]:
    """Domain and the rest, with the default domain and `library/` put in."""
    first, slash, rest = text.partition("/")
    if not slash:
        return DEFAULT_DOMAIN, _OFFICIAL + text
    if first == _LEGACY_DOMAIN:
        domain = DEFAULT_DOMAIN
    elif first == "localhost" or "." in first or ":" in first or first.lower() != first:
        domain = first
    else:
        domain, rest = DEFAULT_DOMAIN, text
    if domain == DEFAULT_DOMAIN and "/" not in rest:
        rest = _OFFICIAL + rest
    return domain, rest


def parse(text: str) -> Reference:
    """The normalised reference in `text`, a name as people type it; no default tag is added.

    Raises: InvalidArgument with the texts of distribution/reference (`invalid reference format`, ...).
    """
    if _IDENTIFIER.fullmatch(text):
        raise InvalidArgument(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    if not text or len(text) > _MAX_LENGTH:
        raise InvalidArgument("invalid reference format")
    domain, rest = _split_domain(text)
    path = rest.partition(":")[0]
    if path.lower() != path:
        raise InvalidArgument(f"invalid reference format: repository name ({path}) must be lowercase")
    whole = f"{domain}/{rest}"
    match = _REFERENCE.fullmatch(whole)
    if match is None:
        if _REFERENCE.fullmatch(whole.lower()):
            raise InvalidArgument("repository name must be lowercase")
        raise InvalidArgument("invalid reference format")
    found_domain, found_path, tag, digest = match.groups()
    if found_domain is None:
        raise InvalidArgument("invalid reference format")
    if len(found_path) > MAX_PATH_LENGTH:
        raise InvalidArgument(f"repository name must not be more than {MAX_PATH_LENGTH} characters")
    return Reference(found_domain, found_path, tag, digests.parse(digest) if digest else None)


def parse_any(text: str) -> Reference | Digest:
    """A digest when `text` is 64 hex digits (then sha256) or a whole digest, else the normalised reference."""
    if _IDENTIFIER.fullmatch(text):
        return Digest(f"sha256:{text}")
    try:
        return digests.parse(text)
    except InvalidArgument:
        return parse(text)

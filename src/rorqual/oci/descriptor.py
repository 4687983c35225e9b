"""Descriptors: media type, digest and size of a blob, and where an index says it belongs.

Source: image-spec descriptor.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rorqual.errdefs import InvalidArgument
from rorqual.oci import digest as digests
from rorqual.oci.digest import Digest
from rorqual.oci.fields import Fields
from rorqual.oci.platform import Platform

# 1 TiB: above any real layer, below what breaks arithmetic on offsets.
MAX_SIZE = 1 << 40
_MAX_URLS = 32


@dataclass(frozen=True, slots=True)
class Descriptor:
    """`size` in bytes. `platform` only inside an index."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    urls: tuple[str, ...] = ()
    platform: Platform | None = None
    artifact_type: str = ""

    @classmethod
    def from_fields(cls, fields: Fields) -> Descriptor:
        """Raises: InvalidArgument naming the field."""
        media_type = fields.text("mediaType")
        if not media_type:
            raise InvalidArgument(f"{fields.where}: mediaType is missing")
        try:
            digest = digests.parse(fields.text("digest"))
        except InvalidArgument as error:
            raise InvalidArgument(f"{fields.where}: digest: {error}") from error
        size = fields.number("size", -1)
        if not 0 <= size <= MAX_SIZE:
            raise InvalidArgument(f"{fields.where}: size must be between 0 and {MAX_SIZE}")
        urls = fields.texts("urls")
        if len(urls) > _MAX_URLS:
            raise InvalidArgument(f"{fields.where}: more than {_MAX_URLS} urls")
        platform = fields.sub("platform")
        return cls(
            media_type=media_type,
            digest=digest,
            size=size,
            annotations=fields.text_map("annotations"),
            urls=urls,
            platform=None if platform is None else Platform.from_fields(platform),
            artifact_type=fields.text("artifactType"),
        )

    def to_json(self) -> dict[str, object]:
        found: dict[str, object] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.urls:
            found["urls"] = list(self.urls)
        if self.annotations:
            found["annotations"] = dict(self.annotations)
        if self.platform is not None:
            found["platform"] = self.platform.to_json()
        if self.artifact_type:
            found["artifactType"] = self.artifact_type
        return found

"""Manifests (one image) and indexes (one entry a platform), Docker's schema 2 and OCI's, told apart strictly.

`parse` is the only way in. A document that could be read as both, or whose mediaType disagrees with what it holds or
with what it was served as, is refused (CVE-2021-41190). Source: image-spec manifest.md, image-index.md;
manifest-v2-2.md of distribution.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rorqual.errdefs import InvalidArgument, NotFound
from rorqual.oci import digest as digests
from rorqual.oci import mediatypes, platform
from rorqual.oci.descriptor import Descriptor
from rorqual.oci.digest import Digest
from rorqual.oci.fields import Fields
from rorqual.oci.platform import Platform

MAX_MANIFEST_BYTES = 4 << 20
# Of an index's entry that tells something of another one. Source: BuildKit docs/attestations/attestation-storage.md
REFERENCE_TYPE = "vnd.docker.reference.type"
REFERENCE_DIGEST = "vnd.docker.reference.digest"
# overlayfs takes 500 lower layers at most and Docker 128; an index has one entry a platform plus attestations.
_MAX_LAYERS = 500
_MAX_ENTRIES = 4096


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image: its config and its layers, the bottom first. `raw` is what `digest` is of."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str]
    artifact_type: str
    raw: bytes
    digest: Digest

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.media_type, self.digest, len(self.raw))


@dataclass(frozen=True, slots=True)
class Index:
    """One name for several platforms' manifests. `raw` is what `digest` is of."""

    media_type: str
    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str]
    raw: bytes
    digest: Digest

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.media_type, self.digest, len(self.raw))

    def choose(self, wanted: Platform) -> Descriptor:
        """The entry that fits `wanted` best.

        Raises: NotFound with Docker's text.
        """
        position = platform.choose(wanted, [entry.platform for entry in self.manifests])
        if position is None:
            raise NotFound(f"no matching manifest for {wanted} in the manifest list entries")
        return self.manifests[position]


def parse(raw: bytes, media_type: str = "", algorithm: str = "sha256") -> Manifest | Index:
    """The manifest or index in `raw`, which was served or described as `media_type` ("" when unknown).

    Raises: InvalidArgument for anything else, for schema 1, and for a document that is ambiguous.
    """
    fields = Fields.load(raw, "manifest", MAX_MANIFEST_BYTES)
    kind = _kind(fields, media_type)
    digest = digests.of(raw, algorithm)
    if kind in mediatypes.INDEXES:
        entries = tuple(Descriptor.from_fields(entry) for entry in fields.objects("manifests"))
        if len(entries) > _MAX_ENTRIES:
            raise InvalidArgument(f"manifest: more than {_MAX_ENTRIES} entries")
        return Index(kind, entries, fields.text_map("annotations"), raw, digest)
    config = fields.sub("config")
    if config is None:
        raise InvalidArgument("manifest: config is missing")
    layers = tuple(Descriptor.from_fields(layer) for layer in fields.objects("layers"))
    if len(layers) > _MAX_LAYERS:
        raise InvalidArgument(f"manifest: more than {_MAX_LAYERS} layers")
    return Manifest(
        media_type=kind,
        config=Descriptor.from_fields(config),
        layers=layers,
        annotations=fields.text_map("annotations"),
        artifact_type=fields.text("artifactType"),
        raw=raw,
        digest=digest,
    )


def _kind(fields: Fields, served: str) -> str:
    """The document's media type, once everything that speaks about it agrees."""
    served = served.partition(";")[0].strip().lower()
    inner = fields.text("mediaType")
    if served in mediatypes.SCHEMA1 or inner in mediatypes.SCHEMA1 or fields.number("schemaVersion") == 1:
        raise InvalidArgument(
            "media type application/vnd.docker.distribution.manifest.v1+prettyjws is no longer supported: "
            "the registry offers this image as schema 1 only; push it again with a current client"
        )
    if fields.number("schemaVersion") != 2:
        raise InvalidArgument(f"manifest: schemaVersion {fields.number('schemaVersion')} is not supported")
    # Generic types say nothing; any other type is a claim that must hold.
    claimed = "" if served in ("", "application/json", "application/octet-stream", "text/plain") else served
    if inner and claimed and inner != claimed:
        raise InvalidArgument(f"manifest: mediaType {inner} disagrees with {claimed}, which it was served as")
    kind = inner or claimed
    if kind and kind not in mediatypes.MANIFESTS and kind not in mediatypes.INDEXES:
        raise InvalidArgument(f"unsupported media type {kind}")
    has_image = "layers" in fields or "config" in fields or "fsLayers" in fields
    has_index = "manifests" in fields
    if has_image and has_index:
        raise InvalidArgument("manifest: holds both layers or config and manifests: refused as ambiguous")
    if not has_image and not has_index:
        raise InvalidArgument("manifest: holds neither layers nor manifests")
    if not kind:
        return mediatypes.OCI_INDEX if has_index else mediatypes.OCI_MANIFEST
    if (kind in mediatypes.INDEXES) != has_index:
        raise InvalidArgument(f"manifest: its content does not agree with its mediaType {kind}")
    return kind


def is_attestation(entry: Descriptor) -> bool:
    """Whether an index's entry is no image but tells of one."""
    return REFERENCE_TYPE in entry.annotations


def attestations_of(index: Index, digest: str) -> list[Descriptor]:
    """The entries that attest something of the manifest `digest` of the same index."""
    return [
        entry
        for entry in index.manifests
        if entry.annotations.get(REFERENCE_TYPE) == "attestation-manifest"
        and entry.annotations.get(REFERENCE_DIGEST) == digest
    ]


def build(media_type: str, config: Descriptor, layers: Sequence[Descriptor]) -> Manifest:
    """A new manifest of `config` and `layers`, with its bytes."""
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": config.to_json(),
        "layers": [layer.to_json() for layer in layers],
    }
    made = parse(json.dumps(document, indent=3).encode(), media_type)
    if not isinstance(made, Manifest):
        raise InvalidArgument(f"{media_type} is not the type of an image manifest")
    return made

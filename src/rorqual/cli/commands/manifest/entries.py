"""Manifests as drafts keep them and `inspect --verbose` shows them: a descriptor with platform, and the document."""

from __future__ import annotations

import base64
import hashlib
import json

from rorqual.cli.commands.manifest.remote import Registry
from rorqual.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rorqual.cli.command import Context
    from rorqual.oci.reference import Reference

    JSON = dict[str, Any]

INDEXES = (
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.index.v1+json",
)
_OCI = "application/vnd.oci.image.manifest.v1+json"


def registry_of(context: Context, reference: Reference, *, insecure: bool) -> Registry:
    """The registry that the reference's domain names, with the user's credentials."""
    return Registry(reference.domain, context.config.credentials(reference.domain), insecure=insecure)


def parsed(text: str) -> Reference:
    """The reference, tagged latest by default. Raises: InvalidArgument."""
    from rorqual.oci.reference import parse

    return parse(text).with_default_tag()


def fetch(registry: Registry, reference: Reference) -> list[JSON]:
    """The image of a reference, or each of the index's. Raises: CommandError."""
    raw, media_type = registry.manifest(reference)
    document = _document(raw)
    media_type = document.get("mediaType") or media_type
    if media_type not in INDEXES:
        return [_entry(registry, reference, raw, media_type)]
    found = []
    for descriptor in document.get("manifests") or []:
        from rorqual.oci.reference import Reference as Ref

        one = Ref(reference.domain, reference.path, None, descriptor["digest"])
        body, _ = registry.manifest(one)
        entry = _entry(registry, one, body, descriptor["mediaType"], descriptor.get("platform"))
        found.append(entry)
    return found


def _entry(registry: Registry, reference: Reference, raw: bytes, media_type: str, platform: JSON | None = None) -> JSON:
    document = _document(raw)
    if platform is None:
        config = _document(registry.blob(reference.path, document["config"]["digest"]))
        platform = {key: config[key] for key in ("architecture", "os", "os.version", "variant") if config.get(key)}
    kind = "OCIManifest" if media_type == _OCI else "SchemaV2Manifest"
    return {
        "Ref": str(reference),
        "Descriptor": {
            "mediaType": media_type,
            "digest": f"sha256:{hashlib.sha256(raw).hexdigest()}",
            "size": len(raw),
            "platform": platform,
        },
        "Raw": base64.b64encode(raw).decode(),
        kind: document,
    }


def _document(raw: bytes) -> JSON:
    try:
        document = json.loads(raw)
    except ValueError as e:
        raise CommandError(f"the registry's document cannot be read: {e}") from e
    if not isinstance(document, dict):
        raise CommandError("the registry's document is no object")
    return document


def index_of(entries: list[JSON]) -> tuple[bytes, str]:
    """The index of a draft's manifests: Docker's list, OCI's when one of them is OCI's. Raises: CommandError."""
    for entry in entries:
        platform = entry["Descriptor"].get("platform") or {}
        if not platform.get("architecture") or not platform.get("os"):
            raise CommandError(f"manifest {entry['Ref']} must have an OS and Architecture to be pushed to a registry")
    oci = any(entry["Descriptor"]["mediaType"] == _OCI for entry in entries)
    media_type = INDEXES[1] if oci else INDEXES[0]
    manifests = [
        {key: entry["Descriptor"][key] for key in ("mediaType", "size", "digest", "platform")} for entry in entries
    ]
    document = {"schemaVersion": 2, "mediaType": media_type, "manifests": manifests}
    return json.dumps(document, indent=3).encode(), media_type

"""GET /images/{name}/attestations: in-toto statements that the image's index has of a platform's manifest.

Source: Engine API ImageAttestations; BuildKit docs/attestations/attestation-storage.md.
"""

from __future__ import annotations

import json
from collections.abc import Collection

from rorqual.api.image import AttestationStatement
from rorqual.daemon.services.images.library import Library
from rorqual.daemon.services.images.manifests import Content, described
from rorqual.errdefs import DataLoss, NotFound
from rorqual.oci import manifest as manifests
from rorqual.oci import mediatypes
from rorqual.oci import platform as platforms
from rorqual.oci.descriptor import Descriptor
from rorqual.oci.manifest import Index, Manifest
from rorqual.oci.platform import Platform

_PREDICATE = "in-toto.io/predicate-type"
_MAX_STATEMENT_BYTES = 16 << 20


class Attestations:
    """Reads the store."""

    def __init__(self, library: Library, content: Content) -> None:
        self._library = library
        self._content = content

    async def of(
        self, text: str, platform: Platform | None, types: Collection[str], *, bodies: bool
    ) -> list[AttestationStatement]:
        """The statements of `types` (of all when empty), with `bodies` whole; none for an image without an index.

        Raises: NotFound for an unknown image or platform, and for a statement that is not here; InvalidArgument.
        """
        target = (await self._library.find(text)).target
        if target.media_type not in mediatypes.INDEXES:
            return []
        index = manifests.parse(
            await self._content.read(target.digest, manifests.MAX_MANIFEST_BYTES), target.media_type
        )
        if not isinstance(index, Index):
            return []
        image = index.choose(platform or platforms.host())
        found: list[AttestationStatement] = []
        for entry in manifests.attestations_of(index, image.digest)[:1]:
            raw = await self._content.read(entry.digest, manifests.MAX_MANIFEST_BYTES)
            document = manifests.parse(raw, entry.media_type)
            if not isinstance(document, Manifest):
                continue
            for layer in document.layers:
                type = layer.annotations.get(_PREDICATE, "")
                if type and (not types or type in types):
                    body = await self._statement(layer) if bodies else None
                    found.append(AttestationStatement(described(layer), type, body))
        return found

    async def _statement(self, layer: Descriptor) -> dict[str, object]:
        try:
            raw = await self._content.read(layer.digest, _MAX_STATEMENT_BYTES)
        except NotFound as error:
            raise NotFound(f"attestation statement {layer.digest} is not available locally") from error
        try:
            document = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise DataLoss(f"attestation statement {layer.digest}: invalid JSON: {error}") from error
        if not isinstance(document, dict):
            raise DataLoss(f"attestation statement {layer.digest}: not a JSON object")
        return document

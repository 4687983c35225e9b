"""GET /distribution/{name}/json: what a registry has under a name, without pulling it.

Source: Engine API DistributionInspect.
"""

from __future__ import annotations

from rorqual.api.image import DistributionInspect, OCIDescriptor, OCIPlatform
from rorqual.distribution.credentials import Credentials
from rorqual.distribution.pull import Puller
from rorqual.errdefs import InvalidArgument
from rorqual.oci import manifest as manifests
from rorqual.oci import mediatypes
from rorqual.oci import reference as references
from rorqual.oci.manifest import Index
from rorqual.oci.platform import Platform


class Distribution:
    """Asks registries."""

    def __init__(self, puller: Puller) -> None:
        self._puller = puller

    async def inspect(self, name: str, credentials: Credentials) -> DistributionInspect:
        """Raises: NotFound, Unauthenticated, Unavailable, InvalidArgument."""
        reference = references.parse(name)
        served = await self._puller.describe(reference, credentials)
        document = manifests.parse(served.raw, served.media_type)
        descriptor = OCIDescriptor(document.media_type, document.digest, len(document.raw))
        if isinstance(document, Index):
            platforms = tuple(_shown(entry.platform) for entry in document.manifests if entry.platform is not None)
            return DistributionInspect(descriptor, platforms)
        if document.config.media_type not in mediatypes.CONFIGS:
            return DistributionInspect(descriptor)
        try:
            platform = await self._puller.platform_of(reference, document, credentials)
        except InvalidArgument:
            return DistributionInspect(descriptor)  # an artifact under an image's media type
        return DistributionInspect(descriptor, (_shown(platform),))


def _shown(platform: Platform) -> OCIPlatform:
    return OCIPlatform(
        platform.architecture, platform.os, platform.os_version, platform.os_features or None, platform.variant
    )

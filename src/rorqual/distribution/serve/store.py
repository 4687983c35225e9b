"""What the registry needs of the outside. All may be called concurrently; digests and names were checked before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rorqual.oci.descriptor import Descriptor
from rorqual.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob's bytes as a file, which never changes and may lose its name while it is open."""

    digest: Digest
    size: int
    path: Path


@dataclass(frozen=True, slots=True)
class NewManifest:
    """`needs` are the digests that must stay as long as it, by kind ("config", "l.0", "m.0"); `subject` may be ""."""

    descriptor: Descriptor
    raw: bytes
    needs: Mapping[str, Digest]
    subject: str


class Upload(Protocol):
    """Bytes of a blob on their way, kept between requests and over a restart. One request at a time has it open."""

    id: str
    offset: int

    async def write(self, data: bytes) -> None:
        """Append."""

    async def commit(self, digest: Digest) -> None:
        """Make it a blob of the repository. Raises: DataLoss for other bytes than that digest's; it is gone then."""

    async def pause(self) -> None:
        """Let it go; the bytes stay for the next request. Idempotent."""

    async def cancel(self) -> None:
        """Drop it."""


class Store(Protocol):
    """Repositories of blobs, manifests and tags."""

    async def blob(self, repository: str, digest: Digest) -> Blob | None:
        """None when the repository has none such."""

    async def mount(self, repository: str, source: str, digest: Digest) -> bool:
        """Give `repository` the blob that `source` ("": any) has. False when it has none."""

    async def delete_blob(self, repository: str, digest: Digest) -> bool:
        """False when the repository has none such."""

    async def begin(self, repository: str) -> Upload:
        """A new upload."""

    async def upload(self, repository: str, id: str) -> Upload | None:
        """The upload, open. None when there is none. Raises: Unavailable while another request has it."""

    async def upload_offset(self, repository: str, id: str) -> int | None:
        """How many bytes it has; None when there is none."""

    async def manifest(self, repository: str, reference: str) -> Descriptor | None:
        """What a tag or digest of the repository means."""

    async def raw(self, digest: Digest) -> bytes | None:
        """A manifest's bytes."""

    async def put_manifest(self, repository: str, tag: str, manifest: NewManifest) -> None:
        """Keep it, under `tag` unless that is ""."""

    async def delete_manifest(self, repository: str, digest: Digest) -> bool:
        """With every tag that means it. False when the repository has none such."""

    async def delete_tag(self, repository: str, tag: str) -> bool:
        """False when there is none."""

    async def tags(self, repository: str) -> Sequence[str] | None:
        """All of them, in any order; None when there is no such repository."""

    async def repositories(self) -> Sequence[str]:
        """All of them, in any order."""

    async def referrers(self, repository: str, subject: Digest) -> Sequence[Descriptor]:
        """The manifests of the repository whose subject that is."""

"""POST /images/create?fromSrc=-: a root filesystem's tar becomes an image of one layer."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from rorqual.daemon.remote import Remote
from rorqual.daemon.services import clock
from rorqual.daemon.services.events import Events
from rorqual.daemon.services.images.library import Library, LocalImage
from rorqual.daemon.services.images.stores import Documents, Layers, Lease
from rorqual.distribution.stores import Layer
from rorqual.errdefs import InvalidArgument
from rorqual.oci import digest as digest_of
from rorqual.oci import image as images
from rorqual.oci import manifest as manifests
from rorqual.oci import mediatypes
from rorqual.oci import platform as platforms
from rorqual.oci.descriptor import Descriptor
from rorqual.oci.digest import Digest
from rorqual.oci.reference import Reference
from rorqual.rpc.ingest import Request, Unpack, open_ingest

_CHUNK = 1 << 20
_MAGIC = {b"\x1f\x8b": mediatypes.OCI_LAYER_GZIP, b"\x28\xb5\x2f\xfd": mediatypes.OCI_LAYER_ZSTD}
_GC = "containerd.io/gc.ref."


@dataclass(frozen=True, slots=True)
class Spooled:
    """A blob in a temporary file."""

    file: IO[bytes]
    digest: Digest
    size: int
    media_type: str


class Importer:
    """Builds images from layers that come as files."""

    def __init__(
        self, remote: Remote, library: Library, lease: Lease, ingest: Path, events: Events, spool: Path
    ) -> None:
        self._remote = remote
        self._library = library
        self._lease = lease
        self._ingest = str(ingest)
        self._documents = Documents(remote, lease)
        self._layers = Layers(remote, ingest, lease)
        self._events = events
        self._spool = spool

    async def import_tar(
        self, body: AsyncIterator[bytes], name: Reference | None, changes: ContainerChanges, message: str, platform: str
    ) -> str:
        """The new image's ID. Raises: InvalidArgument for what isn't a tar."""
        wanted = platforms.normalize(platforms.parse(platform)) if platform else platforms.host()
        blob = await spool(body, self._spool)
        with blob.file:
            if not blob.size:
                raise InvalidArgument("the archive is empty")
            async with self._lease.held():
                diff_id = await self._unpack(blob)
                created = clock.rfc3339(clock.now_ns())
                config: dict[str, Any] = {
                    "architecture": wanted.architecture,
                    "os": wanted.os,
                    "created": created,
                    "comment": message,
                    "config": changes.to_json(),
                    "rootfs": {"type": "layers", "diff_ids": [diff_id]},
                    "history": [{"created": created, "comment": message}],
                }
                if wanted.variant:
                    config["variant"] = wanted.variant
                layer = Descriptor(blob.media_type, blob.digest, blob.size)
                image = await self.assemble(json.dumps(config, separators=(",", ":")).encode(), [layer])
                if name is not None:
                    await self._library.put(str(name.with_default_tag()), image, clock.now_ns())
                else:
                    await self._library.keep(image)
        self._events.publish("image", "import", image.id, {"name": image.id})
        return image.id

    async def assemble(self, config: bytes, layers: Sequence[Descriptor]) -> LocalImage:
        """Store config and manifest of layers that are here; the image has no name yet (hold the lease)."""
        image = images.parse(config)
        described = Descriptor(mediatypes.OCI_CONFIG, image.digest, len(config))
        manifest = manifests.build(mediatypes.OCI_MANIFEST, described, list(layers))
        top = image.chain_ids[-1] if image.chain_ids else None
        labels = {f"{_GC}snapshot.{self._remote.snapshots.snapshotter}": str(top)} if top else {}
        await self._documents.put(described, config, labels)
        references = {f"{_GC}content.config": str(image.digest)}
        references |= {f"{_GC}content.l.{n}": str(layer.digest) for n, layer in enumerate(layers)}
        await self._documents.put(manifest.descriptor, manifest.raw, references)
        return LocalImage(image, manifest, manifest.descriptor)

    async def _unpack(self, blob: Spooled) -> Digest:
        """The layer as a snapshot named by its diff ID, the bottom of a chain."""
        key = f"import-{os.getpid()}-{clock.now_ns()}"
        request = Request(
            ns=self._remote.namespace,
            ref=f"layer-{blob.digest}",
            digest=blob.digest,
            size=blob.size,
            media_type=blob.media_type,
            lease=self._lease.id,
            unpack=Unpack(self._remote.snapshots.snapshotter, key),
        )
        async with await open_ingest(self._ingest, request) as writer:
            if writer.existing is None:
                await asyncio.to_thread(blob.file.seek, writer.offset)
                while chunk := await asyncio.to_thread(blob.file.read, _CHUNK):
                    await writer.write(chunk)
            result = await writer.commit()
        diff_id = Digest(result.diff_id or "")
        descriptor = Descriptor(blob.media_type, blob.digest, blob.size)
        await self._layers.adopt(Layer(descriptor, diff_id, diff_id, None), key)
        return diff_id


def _temporary(directory: Path) -> IO[bytes]:
    return tempfile.TemporaryFile(dir=directory)


async def spool(body: AsyncIterator[bytes], directory: Path) -> Spooled:
    """The whole body in a nameless file, with its digest."""
    hasher = hashlib.sha256()
    size = 0
    head = b""
    file: IO[bytes] = await asyncio.to_thread(_temporary, directory)
    try:
        pending = bytearray()

        def flush(data: bytes) -> None:
            hasher.update(data)
            file.write(data)

        async for chunk in body:
            size += len(chunk)
            if len(head) < 4:
                head += chunk[:4]
            pending += chunk
            if len(pending) >= _CHUNK:
                await asyncio.to_thread(flush, bytes(pending))
                pending.clear()
        await asyncio.to_thread(flush, bytes(pending))
        await asyncio.to_thread(file.seek, 0)
    except BaseException:
        file.close()
        raise
    media_type = next((m for magic, m in _MAGIC.items() if head.startswith(magic)), mediatypes.OCI_LAYER)
    return Spooled(file, digest_of.parse(f"sha256:{hasher.hexdigest()}"), size, media_type)


@dataclass(frozen=True, slots=True)
class ContainerChanges:
    """--change: Dockerfile instructions that set the config."""

    values: tuple[tuple[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The image's config."""
        return dict(self.values)

    @classmethod
    def parse(cls, instructions: Sequence[str]) -> ContainerChanges:
        """Of CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, USER, VOLUME, WORKDIR, STOPSIGNAL. Raises: InvalidArgument."""
        values: dict[str, Any] = {}
        for text in instructions:
            name, _, rest = text.strip().partition(" ")
            rest = rest.strip()
            match name.upper():
                case "CMD" | "ENTRYPOINT":
                    values[name.title() if name.upper() == "CMD" else "Entrypoint"] = _command(rest)
                case "ENV":
                    key, sign, value = rest.partition("=") if "=" in rest.split(" ", 1)[0] else rest.partition(" ")
                    if not sign:
                        raise InvalidArgument("ENV must have two arguments")
                    values.setdefault("Env", []).append(f"{key}={value.strip(chr(34))}")
                case "LABEL":
                    key, _, value = rest.partition("=")
                    values.setdefault("Labels", {})[key.strip('"')] = value.strip('"')
                case "EXPOSE":
                    for port in rest.split():
                        values.setdefault("ExposedPorts", {})[port if "/" in port else f"{port}/tcp"] = {}
                case "VOLUME":
                    for path in _command(rest) if rest.startswith("[") else rest.split():
                        values.setdefault("Volumes", {})[path] = {}
                case "USER":
                    values["User"] = rest
                case "WORKDIR":
                    values["WorkingDir"] = rest
                case "STOPSIGNAL":
                    values["StopSignal"] = rest
                case _:
                    raise InvalidArgument(f"{name.upper()} is not a valid change command")
        return cls(tuple(values.items()))


def _command(text: str) -> list[str]:
    if text.startswith("["):
        try:
            parsed = json.loads(text)
        except ValueError:
            parsed = None
        if isinstance(parsed, list) and all(isinstance(item, str) for item in parsed):
            return parsed
    return ["/bin/sh", "-c", text]

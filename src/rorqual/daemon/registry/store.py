"""distribution.serve.store over containerd, in the namespace `registry`:

    tag         image   <repository>:<tag> -> manifest
    manifest    blob with the labels rorqual.registry/<repository>, rorqual.registry.type = media type,
                rorqual.registry.subject = digest, containerd.io/gc.root, containerd.io/gc.ref.content.*
    blob        blob with the labels rorqual.registry/<repository> and, until a manifest needs it, gc.expire
    upload      ingest registry/<repository>/<id>

What the engine has too (its namespace) costs nothing twice: blobs are shared. With `local`, the engine's images are
served as well, read-only: docker.io/library/busybox as library/busybox and busybox, others under their whole name.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from google.protobuf import field_mask_pb2

from rorqual.distribution.serve.store import Blob, NewManifest
from rorqual.errdefs import AlreadyExists, Conflict, DataLoss, InvalidArgument, NotFound, Unavailable
from rorqual.oci import manifest as manifests
from rorqual.oci.descriptor import Descriptor
from rorqual.oci.digest import Digest
from rorqual.rpc.channel import UnixChannel, scope
from rorqual.rpc.ingest import Request, open_ingest
from rorqual.rpc.proto import content_pb2, descriptor_pb2, images_pb2
from rorqual.rpc.proto.content_grpc import ContentStub
from rorqual.rpc.proto.images_grpc import ImagesStub
from rorqual.rpc.status import translated

NAMESPACE = "registry"
_IN = "rorqual.registry/"
_TYPE = "rorqual.registry.type"
_SUBJECT = "rorqual.registry.subject"
_GC_REF = "containerd.io/gc.ref.content."
_GC_ROOT = "containerd.io/gc.root"
_GC_EXPIRE = "containerd.io/gc.expire"
_UNUSED_S = 24 * 3600  # how long a blob waits for its manifest
# one part is one job of a containerd worker: short, so that slow clients keep none of them
_PART_BYTES = 4 << 20
_HUB = "docker.io/"
_OFFICIAL = "library/"


class ContainerdStore:
    """distribution.serve.store.Store. `content` is the directory of the content store; `local` "" serves no images."""

    def __init__(self, channel: UnixChannel, ingest: str, content: Path, local: str) -> None:
        self.open_uploads: set[str] = set()
        self._ingest = ingest
        self._content = ContentStub(channel)
        self._images = ImagesStub(channel)
        self._root = content
        self._own = scope(NAMESPACE)
        self._local = scope(local) if local else None

    # ---- blobs ----

    async def blob(self, repository: str, digest: Digest) -> Blob | None:
        """See Store."""
        info = await self._info(digest)
        if info is None or f"{_IN}{repository}" not in info.labels:
            info = await self._info(digest, self._local) if self._local else None
        return Blob(digest, info.size, self._path(digest)) if info is not None else None

    async def mount(self, repository: str, source: str, digest: Digest) -> bool:
        """See Store."""
        info = await self._info(digest)
        if info is not None and (f"{_IN}{source}" in info.labels or not source):
            await self._label(digest, {f"{_IN}{repository}": "1", _GC_EXPIRE: _expiry()})
            return True
        if self._local is None or await self._info(digest, self._local) is None:
            return False
        return await self._adopt(repository, digest)

    async def delete_blob(self, repository: str, digest: Digest) -> bool:
        """See Store. What a manifest still needs stays, unseen, until that goes."""
        info = await self._info(digest)
        if info is None or f"{_IN}{repository}" not in info.labels:
            return False
        gone = {f"{_IN}{repository}": ""}
        if not _repositories(info.labels, but=repository):
            gone |= {_GC_EXPIRE: "", _GC_ROOT: ""}
        await self._label(digest, gone)
        return True

    async def begin(self, repository: str) -> OpenUpload:
        """See Store."""
        id = secrets.token_hex(16)
        request = content_pb2.WriteContentRequest(action=content_pb2.STAT, ref=_ref(repository, id))
        await self._write_call(request)
        return OpenUpload(self, repository, id, 0)

    async def upload(self, repository: str, id: str) -> OpenUpload | None:
        """See Store."""
        if id in self.open_uploads:
            raise Unavailable(f"upload {id} is open")
        offset = await self.upload_offset(repository, id)
        return None if offset is None else OpenUpload(self, repository, id, offset)

    async def append(self, repository: str, id: str, data: bytearray) -> None:
        """Bytes behind those that an upload has."""
        request = Request(NAMESPACE, _ref(repository, id), "", part=True)
        async with await open_ingest(self._ingest, request) as writer:
            await writer.write(data)
            await writer.commit()

    async def finish(self, repository: str, id: str, digest: Digest, size: int) -> None:
        """An upload's bytes become a blob. Raises: Conflict when they are not the digest's."""
        labels = {f"{_IN}{repository}": "1", _GC_EXPIRE: _expiry()}
        # Told the digest at once, containerd would take a blob that it has for the bytes sent: who knows a digest only
        # must not get what it is of. sha512 has to be told (the bytes are hashed by it); no image is kept under that.
        first = () if digest.startswith("sha512:") else (content_pb2.WriteContentRequest(ref=_ref(repository, id)),)
        request = content_pb2.WriteContentRequest(
            action=content_pb2.COMMIT,
            ref=_ref(repository, id),
            offset=size,
            total=size,
            expected=digest,
            labels=labels,
        )
        try:
            await self._write_call(*first, request)
        except AlreadyExists:
            await self._label(digest, labels)
            await self.abort(repository, id)

    async def abort(self, repository: str, id: str) -> None:
        """Drop an upload; it may be gone already."""
        try:
            await _call(self._content.Abort, content_pb2.AbortRequest(ref=_ref(repository, id)), self._own)
        except NotFound:
            return

    async def upload_offset(self, repository: str, id: str) -> int | None:
        """See Store."""
        request = content_pb2.StatusRequest(ref=_ref(repository, id))
        try:
            return int((await _call(self._content.Status, request, self._own)).status.offset)
        except NotFound:
            return None

    # ---- manifests ----

    async def manifest(self, repository: str, reference: str) -> Descriptor | None:
        """See Store."""
        if ":" in reference:
            return await self._by_digest(repository, Digest(reference))
        image = await self._image(f"{repository}:{reference}", self._own)
        if image is None and self._local is not None:
            for name in _local_names(repository):
                if (image := await self._image(f"{name}:{reference}", self._local)) is not None:
                    break
        return _descriptor(image.target) if image is not None else None

    async def raw(self, digest: Digest) -> bytes | None:
        """See Store."""
        try:
            with self._path(digest).open("rb") as file:  # a few kilobytes
                return file.read(manifests.MAX_MANIFEST_BYTES)
        except FileNotFoundError:
            return None

    async def put_manifest(self, repository: str, tag: str, manifest: NewManifest) -> None:
        """See Store."""
        described = manifest.descriptor
        for digest in manifest.needs.values():
            await self._own_tree(repository, digest)
        labels = {f"{_GC_REF}{kind}": str(digest) for kind, digest in manifest.needs.items()}
        labels |= {f"{_IN}{repository}": "1", _TYPE: described.media_type, _GC_ROOT: _now()}
        if manifest.subject:
            labels[_SUBJECT] = manifest.subject
        await self._write(described.digest, manifest.raw, labels)
        if tag:
            target = descriptor_pb2.Descriptor(
                media_type=described.media_type, digest=described.digest, size=described.size
            )
            image = images_pb2.Image(name=f"{repository}:{tag}", target=target)
            try:
                await _call(self._images.Create, images_pb2.CreateImageRequest(image=image), self._own)
            except AlreadyExists:
                mask = field_mask_pb2.FieldMask(paths=["target"])
                request = images_pb2.UpdateImageRequest(image=image, update_mask=mask)
                await _call(self._images.Update, request, self._own)

    async def delete_manifest(self, repository: str, digest: Digest) -> bool:
        """See Store."""
        info = await self._info(digest)
        if info is None or _TYPE not in info.labels or f"{_IN}{repository}" not in info.labels:
            return False
        for tag, target in await self._tags(repository):
            if target == digest:
                await self.delete_tag(repository, tag)
        return await self.delete_blob(repository, digest)

    async def delete_tag(self, repository: str, tag: str) -> bool:
        """See Store."""
        try:
            await _call(self._images.Delete, images_pb2.DeleteImageRequest(name=f"{repository}:{tag}"), self._own)
        except NotFound:
            return False
        return True

    async def tags(self, repository: str) -> Sequence[str] | None:
        """See Store."""
        found = {tag for tag, _ in await self._tags(repository)}
        if self._local is not None:
            names = set(_local_names(repository))
            for image in (await _call(self._images.List, images_pb2.ListImagesRequest(), self._local)).images:
                name, colon, tag = image.name.rpartition(":")
                if colon and name in names:
                    found.add(tag)
        if not found and repository not in await self._with_manifests():
            return None
        return sorted(found)

    async def repositories(self) -> Sequence[str]:
        """See Store."""
        found = await self._with_manifests()
        if self._local is not None:
            for image in (await _call(self._images.List, images_pb2.ListImagesRequest(), self._local)).images:
                name, colon, _ = image.name.rpartition(":")
                if colon and "@" not in image.name and "/" in name:
                    found.add(name.removeprefix(_HUB))
        return sorted(found)

    async def referrers(self, repository: str, subject: Digest) -> Sequence[Descriptor]:
        """See Store."""
        found = [
            Descriptor(info.labels[_TYPE], Digest(info.digest), info.size)
            for info in await self._list(f'labels."{_SUBJECT}"=={subject}')
            if f"{_IN}{repository}" in info.labels
        ]
        return sorted(found, key=lambda descriptor: descriptor.digest)

    # ---- containerd ----

    async def _by_digest(self, repository: str, digest: Digest) -> Descriptor | None:
        info = await self._info(digest)
        if info is not None and f"{_IN}{repository}" in info.labels and _TYPE in info.labels:
            return Descriptor(info.labels[_TYPE], digest, info.size)
        info = await self._info(digest, self._local) if self._local else None
        if info is None or info.size > manifests.MAX_MANIFEST_BYTES or (raw := await self.raw(digest)) is None:
            return None
        try:
            return manifests.parse(raw).descriptor
        except InvalidArgument:
            return None  # a blob of another kind

    async def _tags(self, repository: str) -> list[tuple[str, str]]:
        """(tag, digest) of each."""
        found = []
        for image in (await _call(self._images.List, images_pb2.ListImagesRequest(), self._own)).images:
            name, _, tag = image.name.rpartition(":")
            if name == repository:
                found.append((tag, image.target.digest))
        return found

    async def _with_manifests(self) -> set[str]:
        found: set[str] = set()
        for info in await self._list(f'labels."{_TYPE}"'):
            found |= _repositories(info.labels)
        return found

    async def _list(self, query: str) -> list[content_pb2.Info]:
        answers = await _call(self._content.List, content_pb2.ListContentRequest(filters=[query]), self._own)
        return [info for answer in answers for info in answer.info]

    async def _info(self, digest: str, where: Mapping[str, str] | None = None) -> content_pb2.Info | None:
        try:
            answer = await _call(self._content.Info, content_pb2.InfoRequest(digest=digest), where or self._own)
        except NotFound:
            return None
        info: content_pb2.Info = answer.info
        return info

    async def _image(self, name: str, where: Mapping[str, str]) -> images_pb2.Image | None:
        try:
            answer = await _call(self._images.Get, images_pb2.GetImageRequest(name=name), where)
        except NotFound:
            return None
        image: images_pb2.Image = answer.image
        return image

    async def _label(self, digest: str, labels: Mapping[str, str]) -> None:
        """Set labels; those with an empty value go."""
        await _label(self._content, self._own, digest, labels)

    async def _write(self, digest: Digest, data: bytes, labels: Mapping[str, str]) -> None:
        request = content_pb2.WriteContentRequest(
            action=content_pb2.COMMIT,
            ref=f"registry-manifest-{secrets.token_hex(16)}",
            total=len(data),
            expected=digest,
            data=data,
            labels=labels,
        )
        try:
            await self._write_call(request)
        except AlreadyExists:
            await self._label(digest, labels)

    async def _write_call(self, *requests: content_pb2.WriteContentRequest) -> None:
        with translated():
            async with self._content.Write.open(metadata=self._own) as stream:
                for request in requests[:-1]:
                    await stream.send_message(request)
                    await stream.recv_message()
                await stream.send_message(requests[-1], end=True)
                async for _ in stream:
                    pass

    async def _own_tree(self, repository: str, digest: Digest) -> None:
        """What the engine's images had so far is the repository's too, with all that it refers to."""
        info = await self._info(digest)
        if self._local is None or (info is not None and f"{_IN}{repository}" in info.labels):
            return
        local = await self._info(digest, self._local)
        if local is None:
            return
        labels = {label: value for label, value in local.labels.items() if label.startswith(_GC_REF)}
        for needed in labels.values():
            await self._own_tree(repository, Digest(needed))
        found = await self._by_digest(repository, digest) if labels else None
        if found is not None:
            labels |= {_TYPE: found.media_type, _GC_ROOT: _now()}
        await self._adopt(repository, digest, labels)

    async def _adopt(self, repository: str, digest: Digest, more: Mapping[str, str] | None = None) -> bool:
        """Take a blob that another namespace has."""
        labels = {f"{_IN}{repository}": "1", _GC_EXPIRE: _expiry(), **(more or {})}
        ref = f"registry-mount-{secrets.token_hex(16)}"
        request = content_pb2.WriteContentRequest(action=content_pb2.STAT, ref=ref, expected=digest, labels=labels)
        try:
            await self._write_call(request)
        except AlreadyExists:
            await self._label(digest, labels)
            return True
        await _call(self._content.Abort, content_pb2.AbortRequest(ref=ref), self._own)
        return False

    def _path(self, digest: Digest) -> Path:
        algorithm, _, encoded = digest.partition(":")
        return self._root / "blobs" / algorithm / encoded


class OpenUpload:
    """distribution.serve.store.Upload: an ingest of containerd's, written through its ingest socket in large parts."""

    def __init__(self, store: ContainerdStore, repository: str, id: str, offset: int) -> None:
        self.id = id
        self.offset = offset
        self._store = store
        self._repository = repository
        self._pending = bytearray()
        store.open_uploads.add(id)

    async def write(self, data: bytes) -> None:
        """See Upload."""
        self._pending += data
        self.offset += len(data)
        if len(self._pending) >= _PART_BYTES:
            await self._send()

    async def commit(self, digest: Digest) -> None:
        """See Upload."""
        try:
            await self._send()
            await self._store.finish(self._repository, self.id, digest, self.offset)
        except Conflict as e:
            await self.cancel()
            raise DataLoss(str(e)) from e
        finally:
            self._store.open_uploads.discard(self.id)

    async def pause(self) -> None:
        """See Upload."""
        try:
            await self._send()
        finally:
            self._store.open_uploads.discard(self.id)

    async def cancel(self) -> None:
        """See Upload."""
        self._pending.clear()
        self._store.open_uploads.discard(self.id)
        await self._store.abort(self._repository, self.id)

    async def _send(self) -> None:
        data, self._pending = self._pending, bytearray()
        if data:
            await self._store.append(self._repository, self.id, data)


async def _call(method: Any, request: Any, metadata: Mapping[str, str]) -> Any:
    with translated():
        return await method(request, metadata=metadata)


async def _label(content: ContentStub, metadata: Mapping[str, str], digest: str, labels: Mapping[str, str]) -> None:
    info = content_pb2.Info(digest=digest, labels=labels)
    mask = field_mask_pb2.FieldMask(paths=[f"labels.{name}" for name in labels])
    await _call(content.Update, content_pb2.UpdateRequest(info=info, update_mask=mask), metadata)


def _ref(repository: str, id: str) -> str:
    return f"registry/{repository}/{id}"


def _repositories(labels: Mapping[str, str], but: str = "") -> set[str]:
    return {label.removeprefix(_IN) for label in labels if label.startswith(_IN)} - {but}


def _local_names(repository: str) -> list[str]:
    """What the engine may call it."""
    names = [repository, f"{_HUB}{repository}"]
    return names if "/" in repository else [*names, f"{_HUB}{_OFFICIAL}{repository}"]


def _descriptor(target: descriptor_pb2.Descriptor) -> Descriptor:
    return Descriptor(target.media_type, Digest(target.digest), target.size)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _expiry() -> str:
    return datetime.fromtimestamp(time.time() + _UNUSED_S, UTC).isoformat(timespec="seconds")

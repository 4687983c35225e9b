"""In-memory stores for pulls: what the daemon does over containerd, with the same contract."""

import asyncio
import gzip
import hashlib
from collections.abc import Callable, Mapping

from rorqual.distribution.stores import Layer
from rorqual.errdefs import DataLoss
from rorqual.oci import digest as digests
from rorqual.oci.descriptor import Descriptor
from rorqual.oci.digest import Digest


class MemoryContent:
    def __init__(self) -> None:
        self.blobs: dict[Digest, bytes] = {}
        self.labels: dict[Digest, Mapping[str, str]] = {}

    async def get(self, digest: Digest) -> bytes | None:
        return self.blobs.get(digest)

    async def put(self, descriptor: Descriptor, data: bytes, labels: Mapping[str, str]) -> None:
        assert (
            len(data) == descriptor.size and digests.of(data, digests.algorithm(descriptor.digest)) == descriptor.digest
        )
        self.blobs[descriptor.digest] = data
        self.labels[descriptor.digest] = labels


class MemoryImages:
    def __init__(self) -> None:
        self.names: dict[str, Digest] = {}

    async def get(self, name: str) -> Digest | None:
        return self.names.get(name)

    async def stands_for(self, name: str, manifest: Digest) -> bool:
        return name in self.names

    async def put(self, name: str, target: Descriptor) -> None:
        self.names[name] = target.digest


class MemoryLayers:
    """Keeps blobs whole, and ingests between attempts. `keep=False` only counts (for throughput)."""

    def __init__(self, *, keep: bool = True) -> None:
        self.keep = keep
        self.ingests: dict[Digest, bytearray] = {}
        self.blobs: dict[Digest, bytes] = {}
        self.unpacked: set[Digest] = set()
        self.committed: dict[Digest, Digest | None] = {}
        self.opened = 0
        self.written = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def until(self, reached: Callable[[], bool]) -> None:
        """Returns when `reached()` holds, asked again at every turn of the loop."""
        # The exact turn matters: a test cancels in the middle of a write.
        while not reached():  # noqa: ASYNC110
            await asyncio.sleep(0)

    async def has(self, layer: Layer) -> bool:
        return layer.chain_id in self.committed

    async def open(self, layer: Layer) -> "MemoryWriter":
        self.opened += 1
        return MemoryWriter(self, layer)

    async def commit(self, layer: Layer) -> None:
        assert layer.parent is None or layer.parent in self.committed, "committed before the layer below"
        assert layer.chain_id in self.unpacked or layer.chain_id in self.committed
        self.unpacked.discard(layer.chain_id)
        self.committed[layer.chain_id] = layer.parent

    async def discard(self, layer: Layer) -> None:
        self.unpacked.discard(layer.chain_id)


class MemoryWriter:
    def __init__(self, sink: MemoryLayers, layer: Layer) -> None:
        self._sink = sink
        self._layer = layer
        self._digest = layer.descriptor.digest
        self.complete = self._digest in sink.blobs
        self._data = sink.ingests.setdefault(self._digest, bytearray())
        self.offset = len(self._data)

    async def write(self, data: bytes) -> None:
        await self._sink.gate.wait()
        self._sink.written += len(data)
        if self._sink.keep:
            self._data += data

    async def commit(self) -> Digest:
        if not self._sink.keep:
            self._sink.unpacked.add(self._layer.chain_id)
            return self._layer.diff_id
        self._sink.ingests.pop(self._digest, None)
        data = self._sink.blobs.get(self._digest) or bytes(self._data)
        if len(data) != self._layer.descriptor.size or digests.of(data) != self._digest:
            raise DataLoss(f"unexpected commit digest {digests.of(data)}, expected {self._digest}")
        self._sink.blobs[self._digest] = data
        self._sink.unpacked.add(self._layer.chain_id)
        tar = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        return Digest("sha256:" + hashlib.sha256(tar).hexdigest())

    async def abort(self) -> None:
        """Nothing: the ingest stays to resume from."""

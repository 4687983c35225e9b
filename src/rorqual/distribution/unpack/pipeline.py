"""Reading, decompressing and hashing in a helper thread, while the caller's thread writes to disk.

All three release the interpreter lock, so with two free cores a layer takes the longer of the two halves instead of
their sum.

    helper:  stream.read -> decompress -> sha256 -> queue (bounded) -> caller: tar entries -> disk
"""

from __future__ import annotations

import contextlib
import hashlib
import queue
import threading

from rorqual.distribution.unpack.decompress import ByteStream, CountedStream, reader
from rorqual.distribution.unpack.limits import Limits
from rorqual.errdefs import ResourceExhausted

# Large enough that handing over costs little, small enough to stay in the cache between hash and write.
_CHUNK_BYTES = 512 << 10
_QUEUE_CHUNKS = 6


class Pipeline:
    """A context manager; `next_chunk()` gives the tar's bytes and re-raises what went wrong in the helper."""

    def __init__(self, stream: ByteStream, limits: Limits, *, hashed: bool = True) -> None:
        self._source = CountedStream(stream)
        self._limits = limits
        self._hash = hashlib.sha256() if hashed else None
        self._queue: queue.Queue[bytes | BaseException] = queue.Queue(_QUEUE_CHUNKS)
        self._stop = threading.Event()
        self._ended = False
        self.size = 0
        # What went wrong on the way to `next_chunk`, to tell it from what went wrong on disk.
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="layer-reader", daemon=True)

    def __enter__(self) -> Pipeline:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        with contextlib.suppress(queue.Empty):
            while True:
                self._queue.get_nowait()
        # At most one read of the stream more: afterwards nobody but the caller touches it.
        self._thread.join()

    @property
    def compressed_size(self) -> int:
        """Bytes read of the stream."""
        return self._source.count

    def diff_id(self) -> str:
        """`sha256:…` of the tar, valid once `next_chunk` gave b""; "" where nothing was hashed."""
        return f"sha256:{self._hash.hexdigest()}" if self._hash is not None else ""

    def next_chunk(self) -> bytes:
        if self._ended:
            return b""
        item = self._queue.get()
        if isinstance(item, BaseException):
            self._ended = True
            self.failure = item
            raise item
        if not item:
            self._ended = True
        return item

    def _run(self) -> None:
        try:
            next_chunk = reader(self._source, _CHUNK_BYTES)
            while not self._stop.is_set():
                data = next_chunk()
                if self._hash is not None:
                    self._hash.update(data)
                self.size += len(data)
                self._check_bounds()
                self._queue.put(data)
                if not data:
                    return
        # Everything belongs to the caller's thread, which re-raises it.
        except BaseException as error:
            self._queue.put(error)

    def _check_bounds(self) -> None:
        limits = self._limits
        if self.size > limits.max_stream_bytes:
            raise ResourceExhausted(f"layer: more than {limits.max_stream_bytes} bytes when decompressed")
        if self.size > limits.ratio_free_bytes and self.size > limits.max_ratio * self._source.count:
            raise ResourceExhausted(
                f"layer: {self._source.count} bytes decompress to more than {limits.max_ratio} times as many"
            )

"""Digests: `sha256:<64 hex>` and `sha512:<128 hex>`; what every blob is named by and checked against.

Source: image-spec descriptor.md, "Digests".
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, NewType

from rorqual.errdefs import DataLoss, InvalidArgument

if TYPE_CHECKING:
    from hashlib import _Hash

Digest = NewType("Digest", str)

_HEX_LENGTH = {"sha256": 64, "sha512": 128}
_GRAMMAR = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[a-zA-Z0-9=_-]+")


def parse(text: str) -> Digest:
    """The digest in `text`.

    Raises: InvalidArgument with the texts Docker's clients know, for a bad form, an unknown algorithm, a bad length.
    """
    if not isinstance(text, str) or not _GRAMMAR.fullmatch(text):
        raise InvalidArgument("invalid checksum digest format")
    algorithm, _, encoded = text.partition(":")
    length = _HEX_LENGTH.get(algorithm)
    if length is None:
        raise InvalidArgument("unsupported digest algorithm")
    if len(encoded) != length:
        raise InvalidArgument("invalid checksum digest length")
    # Upper-case hex would be a second name of the same blob.
    if encoded.strip("0123456789abcdef"):
        raise InvalidArgument("invalid checksum digest format")
    return Digest(text)


def of(data: bytes | memoryview, algorithm: str = "sha256") -> Digest:
    """The digest of `data`."""
    return Digest(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")


def algorithm(digest: Digest) -> str:
    """`sha256` or `sha512`."""
    return digest.partition(":")[0]


def encoded(digest: Digest) -> str:
    """The hex part."""
    return digest.partition(":")[2]


def short(digest: Digest) -> str:
    """The first 12 hex digits, as Docker shows layers and images."""
    return digest.partition(":")[2][:12]


def hasher(digest: Digest) -> _Hash:
    """A fresh hash object of the digest's algorithm."""
    return hashlib.new(algorithm(digest))


class Verifier:
    """Counts and hashes bytes as they pass; `check()` at the end compares both with what was promised."""

    __slots__ = ("_hash", "_size", "digest", "received")

    def __init__(self, digest: Digest, size: int | None = None) -> None:
        self.digest = digest
        self.received = 0
        self._size = size
        self._hash = hasher(digest)

    def update(self, data: bytes | memoryview) -> None:
        """Takes the next bytes.

        Raises: DataLoss as soon as there are more than were promised, so that a lying peer cannot fill the disk.
        """
        self.received += len(data)
        if self._size is not None and self.received > self._size:
            raise DataLoss(f"{self.digest}: more than the {self._size} bytes promised were received")
        self._hash.update(data)

    def check(self) -> None:
        """Raises: DataLoss when size or digest differ from the promise."""
        if self._size is not None and self.received != self._size:
            raise DataLoss(f"{self.digest}: {self.received} bytes were received, {self._size} were promised")
        if self._hash.hexdigest() != encoded(self.digest):
            raise DataLoss(f"unexpected digest {algorithm(self.digest)}:{self._hash.hexdigest()}, want {self.digest}")

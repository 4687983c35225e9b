"""How much one layer may ask of the disk, the memory and the kernel before it is refused (CVE-2023-25153 and bombs)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one layer; each is far above real layers and far below what hurts the host.

    The largest layers of Docker Hub's CUDA and texlive images have some 300,000 entries and 10 GB.
    """

    # An ext4 file system of 16 GB has one million inodes in all.
    max_entries: int = 1_000_000
    # Of the decompressed tar, which bounds what reaches the disk.
    max_stream_bytes: int = 128 << 30
    # Sum of the files' lengths, holes included: a sparse file costs no disk but everyone who copies it.
    max_logical_bytes: int = 256 << 30
    # Decompressed to compressed, looked at only past `ratio_free_bytes`: gzip reaches 1032 on zeros, real layers 20.
    max_ratio: int = 200
    ratio_free_bytes: int = 4 << 30
    # Linux's PATH_MAX; a longer name could not be opened by anyone.
    max_name_bytes: int = 4096
    # Of one extended header (names, xattrs). Linux allows 64 KiB an xattr.
    max_header_bytes: int = 1 << 20
    max_xattr_bytes: int = 64 << 10
    max_xattrs: int = 256
    # Parts of one sparse file.
    max_sparse_parts: int = 100_000
    # Directories deep; the resolver holds one name for each.
    max_depth: int = 1024


DEFAULT_LIMITS = Limits()

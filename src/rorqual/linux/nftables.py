"""nftables: libnftables in this process, and the kernel's notifications of who changed what.

A command through `Nft.run` takes 50 us whatever the size of the map it touches; running nft(8) takes milliseconds. One
`run` is one transaction: all of its commands take effect together, or none.

Both act on the network namespace of the thread that opened them. Source: libnftables(3), linux/nf_tables.h.
"""

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from rorqual.linux.nlmessage import SOL_NETLINK, parse_attrs

NETLINK_NETFILTER = 12
NETLINK_ADD_MEMBERSHIP = 1
NFNLGRP_NFTABLES = 7
NFNL_SUBSYS_NFTABLES = 10
NFT_MSG_NEWCHAIN, NFT_MSG_DELCHAIN = 3, 5
NFT_MSG_NEWRULE, NFT_MSG_DELRULE = 6, 8
NFT_MSG_NEWGEN = 15
NFTA_GEN_PROC_NAME = 3


class NftError(OSError):
    """A transaction was refused; nothing of it took effect. `str()` holds libnftables' own words."""


@cache
def _library() -> ctypes.CDLL:
    try:
        lib = ctypes.CDLL("libnftables.so.1")
    except OSError as error:
        raise NftError(errno.ENOENT, f"libnftables.so.1 is needed for container networks: {error}") from error
    lib.nft_ctx_new.argtypes, lib.nft_ctx_new.restype = [ctypes.c_uint32], ctypes.c_void_p
    lib.nft_ctx_free.argtypes, lib.nft_ctx_free.restype = [ctypes.c_void_p], None
    lib.nft_ctx_output_set_flags.argtypes, lib.nft_ctx_output_set_flags.restype = [ctypes.c_void_p, ctypes.c_uint], None
    lib.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    lib.nft_run_cmd_from_buffer.restype = ctypes.c_int
    for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error"):
        getattr(lib, name).argtypes, getattr(lib, name).restype = [ctypes.c_void_p], ctypes.c_int
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        getattr(lib, name).argtypes, getattr(lib, name).restype = [ctypes.c_void_p], ctypes.c_char_p
    return lib


class Nft:
    """A libnftables context. Not for use by two threads at once; close it."""

    __slots__ = ("_ctx", "_lib")

    def __init__(self, *, json: bool = False) -> None:
        self._lib = _library()
        self._ctx = self._lib.nft_ctx_new(0)
        if not self._ctx:
            raise NftError(errno.ENOMEM, "nft_ctx_new failed")
        self._lib.nft_ctx_buffer_output(self._ctx)
        self._lib.nft_ctx_buffer_error(self._ctx)
        if json:
            self._lib.nft_ctx_output_set_flags(self._ctx, 1 << 4)  # NFT_CTX_OUTPUT_JSON

    def close(self) -> None:
        if self._ctx:
            self._lib.nft_ctx_free(self._ctx)
            self._ctx = None

    def run(self, commands: str) -> str:
        """What the commands printed. Raises NftError when the transaction was refused."""
        failed = self._lib.nft_run_cmd_from_buffer(self._ctx, commands.encode())
        output: bytes = self._lib.nft_ctx_get_output_buffer(self._ctx) or b""
        # Reading the error buffer also empties it, so it is read after every run.
        problem: bytes = self._lib.nft_ctx_get_error_buffer(self._ctx) or b""
        if failed:
            raise NftError(errno.EINVAL, f"nft: {problem.decode(errors='replace').strip()}")
        return output.decode(errors="replace")


@dataclass(frozen=True, slots=True)
class Generation:
    """One committed transaction. `process` is the comm of the thread that made it; `changes` the tables and chains
    (chain "" for a table, set or element) it touched. `lost` means that earlier notifications were dropped."""

    process: str
    changes: frozenset[tuple[str, str]]
    lost: bool = False


class Monitor:
    """A non-blocking socket that tells every transaction of the namespace, ours too. Close it."""

    __slots__ = ("_changes", "_sock")

    def __init__(self) -> None:
        self._sock = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, NETLINK_NETFILTER
        )
        try:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            self._sock.bind((0, 0))
            self._sock.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NFNLGRP_NFTABLES)
        except BaseException:
            self._sock.close()
            raise
        self._changes: set[tuple[str, str]] = set()

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()

    def read(self) -> list[Generation]:
        """The transactions notified since the last call; never blocks."""
        found: list[Generation] = []
        while True:
            try:
                data = self._sock.recv(1 << 18)
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                found.append(Generation("", frozenset(), lost=True))
                continue
            for message, payload in _messages(data):
                attrs = parse_attrs(payload[4:])  # behind struct nfgenmsg
                if message == NFT_MSG_NEWGEN:
                    found.append(Generation(_text(attrs.get(NFTA_GEN_PROC_NAME)), frozenset(self._changes)))
                    self._changes.clear()
                    continue
                chain = b""
                if message in (NFT_MSG_NEWRULE, NFT_MSG_DELRULE):
                    chain = attrs.get(2, b"")  # NFTA_RULE_CHAIN
                elif message in (NFT_MSG_NEWCHAIN, NFT_MSG_DELCHAIN):
                    chain = attrs.get(3, b"")  # NFTA_CHAIN_NAME
                self._changes.add((_text(attrs.get(1)), _text(chain)))


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 16 <= len(data):
        length, kind = struct.unpack_from("=LH", data, at)
        if length < 16 or at + length > len(data):
            return
        if kind >> 8 == NFNL_SUBSYS_NFTABLES:
            yield kind & 0xFF, data[at + 16 : at + length]
        at += (length + 3) & ~3


def _text(raw: bytes | None) -> str:
    return os.fsdecode((raw or b"").rstrip(b"\0"))

"""Elements of nftables' sets and maps, added and deleted by the kernel's own protocol.

libnftables reads every interval set of a table before it adds one element to any set there. The kernel needs to be told
only what is added: of an interval where it begins, and where what comes after it does.

    NLMSG batch begin | NFT_MSG_NEWSETELEM or DELSETELEM, one an element | batch end      one transaction

Source: linux/netfilter/nf_tables.h, linux/netfilter/nfnetlink.h.
"""

import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from rorqual.linux.nlmessage import NLA_F_NESTED, NLM_F_ACK, NLM_F_REQUEST, attr, attr_str

_NETFILTER, _NFTABLES = 12, 10  # NETLINK_NETFILTER, NFNL_SUBSYS_NFTABLES
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEW, _DELETE = (_NFTABLES << 8) | 12, (_NFTABLES << 8) | 14  # NFT_MSG_NEWSETELEM, NFT_MSG_DELSETELEM
_INET = 1  # NFPROTO_INET
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS = 1, 2, 3  # NFTA_SET_ELEM_LIST_*
_KEY, _DATA, _FLAGS = 1, 2, 3  # NFTA_SET_ELEM_*
_ELEMENT, _VALUE = 1, 1  # NFTA_LIST_ELEM, NFTA_DATA_VALUE
_INTERVAL_END = 1  # NFT_SET_ELEM_INTERVAL_END
_CREATE = 0x400  # NLM_F_CREATE
_MOST = 256  # elements in one transaction's datagram, and answers in the socket's buffer
_HEADER = struct.Struct("=LHHLL")


@dataclass(frozen=True, slots=True)
class Element:
    """One of the set or map `name` of a table of family inet: its key, or the first one of an interval that ends with
    `last`; `value` is a map's. Bytes as the kernel compares them: parts of a concatenation padded to four each."""

    name: str
    key: bytes
    last: bytes = b""
    value: bytes = b""


class ElementSocket:
    """A socket on the network namespace of the thread that opens it. Close it."""

    __slots__ = ("_sequence", "_sock")

    def __init__(self) -> None:
        self._sequence = 0
        self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETFILTER)
        try:
            self._sock.bind((0, 0))
        except BaseException:
            self._sock.close()
            raise

    def close(self) -> None:
        self._sock.close()

    def add(self, table: str, elements: Sequence[Element]) -> None:
        """At most 256 of them are one transaction. Raises OSError: ENOENT where there is no such table or set, EEXIST
        for a map's key that leads elsewhere."""
        self._change(_NEW, _CREATE, table, elements)

    def delete(self, table: str, elements: Sequence[Element]) -> None:
        """Likewise. Raises OSError: ENOENT where one of them is not there."""
        self._change(_DELETE, 0, table, elements)

    def _change(self, kind: int, flags: int, table: str, elements: Sequence[Element]) -> None:
        for at in range(0, len(elements), _MOST):
            self._transact(kind, flags, table, elements[at : at + _MOST])

    def _transact(self, kind: int, flags: int, table: str, elements: Sequence[Element]) -> None:
        begin = self._sequence + 1
        self._sequence = end = begin + len(elements) + 1
        parts = [_message(_BATCH_BEGIN, NLM_F_REQUEST, begin, _generic(0, _NFTABLES))]
        for number, element in enumerate(elements, begin + 1):
            body = _generic(_INET, 0) + _body(table, element)
            parts.append(_message(kind, NLM_F_REQUEST | NLM_F_ACK | flags, number, body))
        parts.append(_message(_BATCH_END, NLM_F_REQUEST, end, _generic(0, _NFTABLES)))
        self._sock.send(b"".join(parts))
        failure = 0
        missing = len(elements)
        while missing > 0:
            for number, code in _answers(self._sock.recv(1 << 16)):
                if begin <= number <= end:
                    # One for the batch itself is all there is when it is refused as a whole.
                    missing -= 1 if number > begin else missing
                    failure = failure or code
        if failure:
            raise OSError(failure, f"elements of nftables table inet {table}: {os.strerror(failure)}")


def _answers(data: bytes) -> list[tuple[int, int]]:
    """(sequence number, errno) of each answer in a datagram."""
    found = []
    at = 0
    while at + 20 <= len(data):
        length, kind, _flags, number, _pid = _HEADER.unpack_from(data, at)
        if kind == 2:  # NLMSG_ERROR
            found.append((number, -struct.unpack_from("=i", data, at + 16)[0]))
        at += (length + 3) & ~3
    return found


def _message(kind: int, flags: int, number: int, body: bytes) -> bytes:
    return _HEADER.pack(16 + len(body), kind, flags, number, 0) + body


def _generic(family: int, resource: int) -> bytes:
    """struct nfgenmsg."""
    return struct.pack(">BBH", family, 0, resource)


def _body(table: str, element: Element) -> bytes:
    value = _nested(_DATA, attr(_VALUE, element.value)) if element.value else b""
    listed = _element(element.key, value)
    if element.last:
        after = int.from_bytes(element.last, "big") + 1
        if after >> 8 * len(element.last) == 0:  # nothing comes after the highest of all
            end = attr(_FLAGS, struct.pack(">I", _INTERVAL_END))
            listed += _element(after.to_bytes(len(element.last), "big"), end)
    return attr_str(_LIST_TABLE, table) + attr_str(_LIST_SET, element.name) + _nested(_LIST_ELEMENTS, listed)


def _element(key: bytes, more: bytes) -> bytes:
    return _nested(_ELEMENT, _nested(_KEY, attr(_VALUE, key)) + more)


def _nested(kind: int, content: bytes) -> bytes:
    return attr(kind | NLA_F_NESTED, content)

import struct

from rorqual.linux.nftables import NFT_MSG_DELRULE, NFT_MSG_NEWGEN, NFTA_GEN_PROC_NAME, Generation, Monitor
from rorqual.linux.nlmessage import attr_str


class FakeSocket:
    def __init__(self, *datagrams: bytes | OSError) -> None:
        self.datagrams = list(datagrams)

    def recv(self, _size: int) -> bytes:
        if not self.datagrams:
            raise BlockingIOError
        item = self.datagrams.pop(0)
        if isinstance(item, OSError):
            raise item
        return item


def message(kind: int, *attrs: bytes) -> bytes:
    body = b"\0\0\0\0" + b"".join(attrs)
    return struct.pack("=LHHLL", 16 + len(body), (10 << 8) | kind, 0, 0, 0) + body


def monitor(*datagrams: bytes | OSError) -> Monitor:
    made = Monitor.__new__(Monitor)
    made._sock, made._changes = FakeSocket(*datagrams), set()  # type: ignore[assignment]
    return made


def test_a_transaction_is_told_with_its_maker() -> None:
    rule = message(NFT_MSG_DELRULE, attr_str(1, "t"), attr_str(2, "forward"))
    end = message(NFT_MSG_NEWGEN, attr_str(NFTA_GEN_PROC_NAME, "nft"))
    assert monitor(rule, end).read() == [Generation("nft", frozenset({("t", "forward")}))]
    assert monitor(rule + end, end).read()[1] == Generation("nft", frozenset())


def test_lost_notifications_are_told() -> None:
    found = monitor(OSError(105, "ENOBUFS")).read()
    assert [g.lost for g in found] == [True]

import socket
import struct

import pytest

from rorqual.linux import netlink
from rorqual.linux.netlink import RtNetlink
from rorqual.linux.nlmessage import NLA_F_NESTED, attr, attr_str, attr_u8, parse_attrs


def test_attributes_are_padded_and_come_back() -> None:
    data = attr_str(3, "lo") + attr_u8(4, 7) + attr(5 | NLA_F_NESTED, b"abcde")
    assert len(data) % 4 == 0
    assert parse_attrs(data) == {3: b"lo\0", 4: b"\x07", 5: b"abcde"}


@pytest.mark.parametrize("data", [b"\1", b"\3\0\1\0", b"\xff\0\1\0abc"])
def test_broken_attributes_end_the_parse(data: bytes) -> None:
    assert parse_attrs(data) == {}


def test_mac() -> None:
    assert netlink.mac_text(netlink.mac_bytes("02:42:AC:11:00:02")) == "02:42:ac:11:00:02"
    for bad in ("02:42", "zz:42:ac:11:00:02"):
        with pytest.raises(ValueError):
            netlink.mac_bytes(bad)


def test_new_bridge_is_what_the_kernel_expects() -> None:
    request = netlink.new_bridge("br0", mac="02:00:00:00:00:01", mtu=1400)
    attrs = parse_attrs(request.payload[16:])
    assert attrs[netlink.IFLA_IFNAME] == b"br0\0" and struct.unpack("=I", attrs[netlink.IFLA_MTU]) == (1400,)
    assert parse_attrs(attrs[netlink.IFLA_LINKINFO])[netlink.IFLA_INFO_KIND] == b"bridge\0"


def test_reading_needs_no_privilege() -> None:
    with RtNetlink() as rtnl:
        lo = rtnl.link("lo")
        assert lo is not None and lo in rtnl.links()
        assert socket.inet_aton("127.0.0.1") in [a.address for a in rtnl.addresses() if a.index == lo.index]
        assert rtnl.link("no-such-dev") is None
        assert all(route.prefix <= 32 for route in rtnl.routes())


def test_refusal_is_an_oserror_with_the_request() -> None:
    with RtNetlink() as rtnl, pytest.raises(OSError, match="delete link no-such-dev"):
        rtnl.transact([netlink.del_link("no-such-dev")])

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rorqual import errdefs
from rorqual.libnetwork.ipam.allocator import Allocator


def fresh(cidr: str, ip_range: str | None = None, cursor: int = 0) -> Allocator:
    subnet = IPv4Network(cidr)
    allocator = Allocator(subnet, IPv4Network(ip_range) if ip_range else None, cursor)
    allocator.reserve(subnet.network_address + 1)
    return allocator


def test_addresses_are_given_in_order_and_not_reused_in_a_hurry() -> None:
    allocator = fresh("172.17.0.0/16")
    assert str(allocator.allocate("n")) == "172.17.0.2"
    assert str(allocator.allocate("n")) == "172.17.0.3"
    allocator.release(IPv4Address("172.17.0.2"))
    assert str(allocator.allocate("n")) == "172.17.0.4"


def test_cursor_survives() -> None:
    assert str(fresh("172.17.0.0/16", cursor=9).allocate("n")) == "172.17.0.10"


def test_exhaustion_has_dockers_words_and_ends_with_a_release() -> None:
    allocator = fresh("10.0.0.0/29")
    assert [str(allocator.allocate("n")) for _ in range(5)] == [f"10.0.0.{n}" for n in range(2, 7)]
    with pytest.raises(errdefs.ResourceExhausted) as caught:
        allocator.allocate("bridge (abc)")
    assert str(caught.value) == "no available IPv4 addresses on this network's address pools: bridge (abc)"
    allocator.release(IPv4Address("10.0.0.3"))
    assert str(allocator.allocate("n")) == "10.0.0.3"


def test_requested_addresses() -> None:
    allocator = fresh("10.0.0.0/24", ip_range="10.0.0.128/25")
    allocator.request(IPv4Address("10.0.0.7"))  # outside the range, inside the subnet: allowed, as Docker does
    with pytest.raises(errdefs.PermissionDenied, match="Address already in use"):
        allocator.request(IPv4Address("10.0.0.7"))
    with pytest.raises(errdefs.InvalidArgument, match="does not belong"):
        allocator.request(IPv4Address("10.0.1.7"))
    assert str(allocator.allocate("n")) == "10.0.0.128"


@given(st.integers(22, 31), st.lists(st.booleans(), max_size=200))
def test_never_the_same_address_twice_and_never_a_reserved_one(prefix: int, steps: list[bool]) -> None:
    subnet = IPv4Network(f"10.0.0.0/{prefix}")
    allocator = fresh(str(subnet))
    held: list[IPv4Address] = []
    for take in steps:
        if take:
            try:
                address = allocator.allocate("n")
            except errdefs.ResourceExhausted:
                assert len(held) >= subnet.num_addresses - 3 or prefix == 31
                continue
            assert address in subnet and address not in held and address != subnet.network_address + 1
            if prefix < 31:
                assert address not in (subnet.network_address, subnet.broadcast_address)
            held.append(address)
        elif held:
            allocator.release(held.pop(0))

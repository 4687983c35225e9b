"""A network's addresses. Given out in order, each freed one only after the rest had their turn: a peer that still has
the old container's MAC address in its neighbour table, or a client its old connection, does not meet the new one."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from rorqual import errdefs


class Allocator:
    """The addresses of one subnet. `cursor` (an offset from the subnet's start) survives restarts with the network."""

    __slots__ = ("_first", "_last", "_subnet", "_used", "cursor")

    def __init__(
        self,
        subnet: IPv4Network | IPv6Network,
        ip_range: IPv4Network | IPv6Network | None = None,
        cursor: int = 0,
    ) -> None:
        self._subnet = subnet
        base, size = int(subnet.network_address), subnet.num_addresses
        # The subnet's own and its broadcast address belong to no host, except where RFC 3021 (/31) says so.
        # IPv6 has no broadcast address, but its first one is every router's (RFC 4291 section 2.6.1).
        edge = 1 if subnet.prefixlen < subnet.max_prefixlen - 1 else 0
        self._first, self._last = edge, size - 1 - (edge if subnet.version == 4 else 0)
        if ip_range is not None:
            start = int(ip_range.network_address) - base
            self._first = max(self._first, start)
            self._last = min(self._last, start + ip_range.num_addresses - 1)
        self._used: set[int] = set()
        self.cursor = cursor

    def __len__(self) -> int:
        return len(self._used)

    def reserve(self, address: IPv4Address | IPv6Address) -> None:
        """Mark an address that is in use already (the gateway, a restored endpoint); again is no error."""
        self._used.add(int(address) - int(self._subnet.network_address))

    def request(self, address: IPv4Address | IPv6Address) -> None:
        """Take that very address. Raises errdefs.PermissionDenied when it is taken, InvalidArgument when outside."""
        if address not in self._subnet:
            raise errdefs.InvalidArgument(
                f"invalid address {address}: It does not belong to any of this network's subnets"
            )
        offset = int(address) - int(self._subnet.network_address)
        if offset in self._used:
            raise errdefs.PermissionDenied("Address already in use")
        self._used.add(offset)

    def allocate(self, network: str) -> IPv4Address | IPv6Address:
        """The next free address. `network` ("name (id)") is for the message.

        Raises errdefs.ResourceExhausted when there is none.
        """
        span = self._last - self._first + 1
        start = self.cursor + 1 if self._first <= self.cursor < self._last else self._first
        for step in range(min(max(span, 0), len(self._used) + 1)):  # among that many, one is free
            offset = self._first + (start - self._first + step) % span
            if offset not in self._used:
                self._used.add(offset)
                self.cursor = offset
                return self._subnet[offset]
        raise errdefs.ResourceExhausted(
            f"no available IPv{self._subnet.version} addresses on this network's address pools: {network}"
        )

    def release(self, address: IPv4Address | IPv6Address) -> None:
        self._used.discard(int(address) - int(self._subnet.network_address))

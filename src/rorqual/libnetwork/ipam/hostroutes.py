"""What of the address space the host's routes take, besides those of our own networks.

Reading all routes takes longer than making a network does when there are hundreds, so that they are read once, and
again after the kernel has told of a new one that is none of ours. Of routes that went it does not always tell: what is
kept may be too much, never too little, and `again` reads anew.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from rorqual.libnetwork.ipam.pools import Span
from rorqual.linux.netlink import Route, RtNetlink, route_notifications

_SOCKET_BUFFER = 1 << 20


class HostRoutes:
    """Routes of one family, in the network namespace of the thread that opens it. Close it."""

    def __init__(self, family: int) -> None:
        self._family = family
        self._sock = route_notifications(family, _SOCKET_BUFFER)
        self._foreign: list[Span] | None = None

    def close(self) -> None:
        self._sock.close()

    def again(self) -> None:
        """Read them anew at the next call."""
        self._foreign = None

    def heed(self, ours: Iterable[Span]) -> None:
        """Read what the kernel told since the last call; `ours` are the subnets of our networks."""
        own = sorted(ours)
        starts = [first for first, _ in own]
        for route in self._told():
            if route is None or (route.destination and not _inside(own, starts, _span(route))):
                self._foreign = None

    def foreign(self, ours: Iterable[Span]) -> list[Span]:
        """What is taken by routes that are not part of `ours`, the subnets of our networks."""
        own = sorted(ours)
        self.heed(own)
        if self._foreign is None:
            starts = [first for first, _ in own]
            with RtNetlink() as rtnl:
                spans = [_span(route) for route in rtnl.routes(self._family) if route.destination]
            self._foreign = [span for span in spans if not _inside(own, starts, span)]
        return self._foreign

    def _told(self) -> Iterable[Route | None]:
        """New routes; None where notifications were lost."""
        while True:
            try:
                data = self._sock.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError:
                yield None  # ENOBUFS
                continue
            yield from RtNetlink.new_routes(data, self._family)


def _span(route: Route) -> Span:
    size = 8 * len(route.destination) - route.prefix
    first = int.from_bytes(route.destination, "big") >> size << size
    return first, first + (1 << size) - 1


def _inside(spans: Sequence[Span], starts: Sequence[int], span: Span) -> bool:
    """Whether `span` is part of one of `spans`, which are sorted, disjoint, and begin at `starts`."""
    at = bisect_right(starts, span[0]) - 1
    return at >= 0 and span[1] <= spans[at][1]

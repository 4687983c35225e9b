"""The contract of a network driver.

A driver makes networks and endpoints real in the kernel; what exists, and which address is whose, is the engine's
business. All calls come from the engine's thread, in the host's network namespace. Calls that fail leave nothing half
made of what they were asked for. State that a driver keeps in memory is rebuilt by `restore`.
"""

from collections.abc import Sequence
from typing import Protocol

from rorqual.libnetwork.model import Endpoint, Network, PortBinding, PublishedPort


class Driver(Protocol):
    """One kind of network."""

    @property
    def name(self) -> str: ...

    @property
    def addressed(self) -> bool:
        """Whether networks of this kind have subnets and their endpoints addresses."""
        ...

    def bring_up(self, network: Network) -> None:
        """Make the network's device and settings as they must be; again, or partly there, is no error."""
        ...

    def take_down(self, network: Network) -> None:
        """Remove what `bring_up` made. The network has no endpoints; gone already is no error."""
        ...

    def join(self, network: Network, endpoint: Endpoint, default_route: bool) -> None:
        """Put `endpoint.interface`, addressed and up, into the sandbox. `default_route` if the
        sandbox has no other way out yet."""
        ...

    def leave(self, network: Network, endpoint: Endpoint) -> None:
        """Take the interface out of a sandbox that lives on; gone already is no error."""
        ...

    def publish(
        self, network: Network, endpoint: Endpoint, bindings: Sequence[PortBinding]
    ) -> tuple[PublishedPort, ...]:
        """Open the ports: all of `bindings`, or none and an exception."""
        ...

    def unpublish(self, network: Network, endpoint: Endpoint) -> None:
        """Close `endpoint.ports`."""
        ...

    def restore(self, networks: Sequence[Network], endpoints: Sequence[Endpoint]) -> None:
        """At start: adopt these endpoints of this driver's networks (brought up already), repair what is missing of
        them, remove what belongs to none."""
        ...

    def linger(self, endpoint: Endpoint) -> None:
        """The endpoint's namespace was removed, and what the driver had in it will go with it."""
        ...

    def sweep(self) -> bool:
        """Remove what outlived its sandbox's end; True when there is something left to look at later."""
        ...

    def close(self) -> None:
        """Let go of sockets and fds. Everything in the kernel stays."""
        ...

"""The contract of a network driver.

A driver makes networks and endpoints real in the kernel; what exists, and which address is whose, is the engine's
business. All calls come from the engine's thread, in the host's network namespace. Calls that fail leave nothing half
made of what they were asked for. State that a driver keeps in memory is rebuilt by `restore`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rorqual.libnetwork.model import Endpoint, Network, PortBinding, Proto, PublishedPort, SandboxID


@dataclass(frozen=True, slots=True)
class Opened:
    """What became of port bindings: `published` are rewritten, `routed` are open at the container's own address."""

    published: tuple[PublishedPort, ...] = ()
    routed: tuple[tuple[int, Proto], ...] = ()


class Driver(Protocol):
    """One kind of network."""

    @property
    def name(self) -> str: ...

    @property
    def addressed(self) -> bool:
        """Whether networks of this kind have subnets and their endpoints addresses."""
        ...

    def shape(self, network: Network) -> Network:
        """The network that is to be made, with its driver options read. Raises errdefs.InvalidArgument, NotFound for
        a device it names, PermissionDenied where there can be none like it."""
        ...

    def bring_up(self, network: Network) -> None:
        """Make the network's device and settings as they must be; again, or partly there, is no error."""
        ...

    def take_down(self, network: Network) -> None:
        """Remove what `bring_up` made. The network has no endpoints; gone already is no error."""
        ...

    def join(self, network: Network, endpoint: Endpoint) -> Endpoint:
        """Put `endpoint.interface`, addressed and up, into the sandbox. The endpoint as it became: a driver may name
        its devices, choose the MAC address, have no gateway. Routes are the engine's."""
        ...

    def leave(self, network: Network, endpoint: Endpoint) -> None:
        """Take the interface out of a sandbox that lives on; gone already is no error."""
        ...

    def publish(self, network: Network, endpoint: Endpoint, bindings: Sequence[PortBinding]) -> Opened:
        """Open the ports: all of `bindings`, or none and an exception."""
        ...

    def unpublish(self, network: Network, endpoint: Endpoint) -> None:
        """Close `endpoint.ports` and `endpoint.routed_ports`."""
        ...

    def renamed(self, endpoint: Endpoint) -> None:
        """The endpoint's container is called otherwise from now on (`endpoint.name`)."""
        ...

    def restore(self, networks: Sequence[Network], endpoints: Sequence[Endpoint]) -> set[SandboxID]:
        """At start: adopt these endpoints of this driver's networks (brought up already), repair what is missing of
        them, remove what belongs to none. The sandboxes whose interfaces were made again, so need their routes."""
        ...

    def ending(self, network: Network, endpoint: Endpoint) -> None:
        """The endpoint's namespace is about to be removed: take out of it what must not outlive it for the moment that
        the kernel needs to end it."""
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

"""`none`: a network whose endpoints have no interface: the sandbox has its loopback and nothing else."""

from collections.abc import Sequence

from rorqual.libnetwork.model import Endpoint, Network, PortBinding, PublishedPort


class NullDriver:
    """Also the base of `host`: nothing to make, nothing to remove."""

    name = "null"
    addressed = False

    def bring_up(self, network: Network) -> None:
        return

    def take_down(self, network: Network) -> None:
        return

    def join(self, network: Network, endpoint: Endpoint, default_route: bool) -> None:
        return

    def leave(self, network: Network, endpoint: Endpoint) -> None:
        return

    def publish(
        self, network: Network, endpoint: Endpoint, bindings: Sequence[PortBinding]
    ) -> tuple[PublishedPort, ...]:
        """Docker discards published ports in these modes, with a warning that is the daemon's to give."""
        return ()

    def unpublish(self, network: Network, endpoint: Endpoint) -> None:
        return

    def restore(self, networks: Sequence[Network], endpoints: Sequence[Endpoint]) -> None:
        return

    def linger(self, endpoint: Endpoint) -> None:
        return

    def sweep(self) -> bool:
        return False

    def close(self) -> None:
        return

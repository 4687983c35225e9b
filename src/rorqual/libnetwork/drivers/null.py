"""`none`: a network whose endpoints have no interface: the sandbox has its loopback and nothing else."""

from collections.abc import Sequence

from rorqual import errdefs
from rorqual.libnetwork.drivers.base import Opened
from rorqual.libnetwork.model import Endpoint, Network, PortBinding, SandboxID


class NullDriver:
    """Also the base of `host`: nothing to make, nothing to remove."""

    name = "null"
    addressed = False

    def shape(self, network: Network) -> Network:
        raise errdefs.PermissionDenied(f'only one instance of "{self.name}" network is allowed')

    def bring_up(self, network: Network) -> None:
        return

    def take_down(self, network: Network) -> None:
        return

    def join(self, network: Network, endpoint: Endpoint) -> Endpoint:
        return endpoint

    def leave(self, network: Network, endpoint: Endpoint) -> None:
        return

    def publish(self, network: Network, endpoint: Endpoint, bindings: Sequence[PortBinding]) -> Opened:
        """Docker discards published ports in these modes, with a warning that is the daemon's to give."""
        return Opened()

    def unpublish(self, network: Network, endpoint: Endpoint) -> None:
        return

    def renamed(self, endpoint: Endpoint) -> None:
        return

    def restore(self, networks: Sequence[Network], endpoints: Sequence[Endpoint]) -> set[SandboxID]:
        return set()

    def ending(self, network: Network, endpoint: Endpoint) -> None:
        return

    def linger(self, endpoint: Endpoint) -> None:
        return

    def sweep(self) -> bool:
        return False

    def close(self) -> None:
        return

"""`host`: the container shares the host's network stack; there is no sandbox, so nothing can join."""

from rorqual import errdefs
from rorqual.libnetwork.drivers.null import NullDriver
from rorqual.libnetwork.model import Endpoint, Network


class HostDriver(NullDriver):
    name = "host"

    def join(self, network: Network, endpoint: Endpoint) -> Endpoint:
        """Raises errdefs.PermissionDenied, Docker's answer to `network connect host`."""
        raise errdefs.PermissionDenied(
            "container cannot be disconnected from host network or connected to host network"
        )

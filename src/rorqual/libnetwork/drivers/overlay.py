"""`overlay`: one network on all hosts of a swarm. On each host it is a bridge that the host itself is not on.

    sandbox: eth0 ====== veth<7 hex> -- ov-<network> (no address)

Nothing leaves it here: its endpoints' way out is another network (docker_gwbridge). Other hosts are reached by VXLAN, a
device on the same bridge; there is none while there is no other host, and so no port that takes in frames.
"""

from collections.abc import Sequence

from rorqual.libnetwork import networks
from rorqual.libnetwork.drivers.bridge import BridgeDriver, rules_of
from rorqual.libnetwork.firewall.keeper import Firewall
from rorqual.libnetwork.model import ControllerOptions, Endpoint, Network, SandboxID
from rorqual.libnetwork.netns import NamespaceDir
from rorqual.libnetwork.proxied import Process


class OverlayDriver(BridgeDriver):
    """All overlay networks of an engine. Restored before the bridge driver, which then writes the table for both."""

    name = "overlay"

    def __init__(
        self,
        options: ControllerOptions,
        namespaces: NamespaceDir,
        firewall: Firewall,
        process: Process,
        bridge: BridgeDriver,
    ) -> None:
        super().__init__(options, namespaces, firewall, process)
        self._bridge = bridge

    def shape(self, network: Network) -> Network:
        return self._placed(networks.overlay(network, self._options))

    def restore(self, networks: Sequence[Network], endpoints: Sequence[Endpoint]) -> set[SandboxID]:
        self._bridge.other_rules = [*map(rules_of, networks)]
        self._restored = True
        return self._adopt({network.id: network for network in networks}, endpoints)

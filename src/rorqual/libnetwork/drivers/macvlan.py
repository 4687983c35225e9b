"""`macvlan`: each sandbox has a MAC address of its own on the parent's network.

bridge     containers on one parent reach each other
private    they do not
vepa       they do by way of the switch outside, which has to turn frames round
passthru   one container, which has the parent for itself
"""

from rorqual import errdefs
from rorqual.libnetwork.drivers.parent import ParentDriver
from rorqual.libnetwork.model import Network
from rorqual.linux import netlink


class MacvlanDriver(ParentDriver):
    name = "macvlan"
    mode_option = "macvlan_mode"

    def check_mode(self, network: Network) -> None:
        mode = network.options.get(self.mode_option) or "bridge"
        if mode not in netlink.MACVLAN_MODES:
            raise errdefs.InvalidArgument(f"requested macvlan mode '{mode}' is not valid, 'bridge' mode is the default")

    def device_data(self, network: Network) -> bytes:
        return netlink.macvlan_data(network.options.get(self.mode_option) or "bridge")

"""`ipvlan`: each sandbox has an IP address of its own and shares the parent's MAC address.

l2     the parent's link is the sandbox's
l3     the parent routes for its sandboxes: no gateway, no broadcasts
l3s    the same, seen by the host's connection tracking

`ipvlan_flag` (bridge, private, vepa) says who among them reaches whom, as macvlan's modes do.
"""

from dataclasses import replace

from rorqual import errdefs
from rorqual.libnetwork.drivers.parent import ParentDriver
from rorqual.libnetwork.model import Endpoint, Network
from rorqual.linux import netlink
from rorqual.linux.netlink import Link


class IpvlanDriver(ParentDriver):
    name = "ipvlan"
    mode_option = "ipvlan_mode"
    other_options = ("ipvlan_flag",)
    own_mac = False

    def check_mode(self, network: Network) -> None:
        mode = network.options.get(self.mode_option) or "l2"
        if mode not in netlink.IPVLAN_MODES:
            raise errdefs.InvalidArgument(
                f"requested ipvlan mode '{mode}' is not valid, 'l2' mode is the ipvlan default"
            )
        flag = network.options.get("ipvlan_flag") or "bridge"
        if flag not in netlink.IPVLAN_FLAGS:
            raise errdefs.InvalidArgument(
                f"requested ipvlan flag '{flag}' is not valid, 'bridge' is the ipvlan driver default"
            )

    def device_data(self, network: Network) -> bytes:
        mode = network.options.get(self.mode_option) or "l2"
        return netlink.ipvlan_data(mode, network.options.get("ipvlan_flag") or "bridge")

    def as_joined(self, endpoint: Endpoint, parent: Link) -> Endpoint:
        return replace(endpoint, host_interface="", mac=parent.mac)

    def join(self, network: Network, endpoint: Endpoint) -> Endpoint:
        joined = super().join(network, endpoint)
        if network.options.get(self.mode_option) in ("l3", "l3s"):
            # The way out is the interface itself: a gateway would be asked for by ARP, which these modes have none of.
            return replace(joined, gateway="", gateway6="", onlink=not network.internal)
        return joined

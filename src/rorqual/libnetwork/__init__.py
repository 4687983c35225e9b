"""The Container Network Model: networks, sandboxes, and the endpoints that join a sandbox to a network.

controller    what the daemon calls: coroutines over one worker thread
engine        what that thread does: the state machine of sandboxes and endpoints
table         the networks, and their addresses
networks      what a network is to be, from a request; pure
endpoints     what an endpoint is to be
interfaces    an interface from the inside of its sandbox: addresses, settings, default routes
publishing    a sandbox's ports: on its way out, moving with that
dns/          the embedded DNS: a process of its own
plugins       drivers and IPAM that are other processes
model         the values that cross the boundary
store         network.db
drivers/      one file a network driver, all behind `drivers.base.Driver`
ipam/         subnets for networks, addresses for endpoints
firewall/     the nftables table: rules as text (pure), and their keeper
ports         host ports: choosing them, and reserving them against other programs
netns         network namespaces that outlive the processes in them
files         /etc/hosts and /etc/resolv.conf
"""

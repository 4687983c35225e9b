"""The Container Network Model: networks, sandboxes, and the endpoints that join a sandbox to a network.

controller    what the daemon calls: coroutines over one worker thread
engine        what that thread does: the state machine of networks, sandboxes and endpoints
model         the values that cross the boundary
store         network.db
drivers/      one file a network driver, all behind `drivers.base.Driver`
ipam/         subnets for networks, addresses for endpoints
firewall/     the nftables table: rules as text (pure), and their keeper
ports         host ports: choosing them, and reserving them against other programs
netns         network namespaces that outlive the processes in them
files         /etc/hosts and /etc/resolv.conf
"""

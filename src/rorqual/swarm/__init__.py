"""Swarm: several engines that are one. A node is a manager or a worker; managers keep the swarm's state in etcd.

identity    ids, and the words that keys and tokens are written in
ca          the swarm's certificate authority, nodes' certificates, join tokens
keys        what a manager keeps on its disk: the key of the state, sealed while the swarm is locked
store/      the state: an etcd process, its API, and all objects in memory
objects     what is kept of a cluster, a node, a network
manager/    what users ask of a swarm: the cluster itself, its nodes, its networks
node        this engine's part: joins, leaves, starts again

Imports oci, api and rpc; the daemon puts it together with the engine's own parts.
"""

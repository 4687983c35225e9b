"""A swarm's state: etcd's process, its API, and all of the state in memory."""

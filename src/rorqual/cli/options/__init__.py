"""Grammars of option values that run, create and update share: ports, mounts, devices, networks, limits."""

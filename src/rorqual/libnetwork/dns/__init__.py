"""Embedded DNS: containers of user-defined networks find each other by name at 127.0.0.11.

message   the wire format, as pure functions
zone      who is called what on which network, and what a sandbox may see of it; pure
forward   questions about other names, sent on to real servers
server    the resolver process: one an engine, started by the first endpoint that needs it, outlives the daemon
client    the daemon's side: starts the process, hands it sockets of the sandboxes, tells it names

The first four are all that the resolver process imports, and they import little: its memory is an engine's idle memory.
"""

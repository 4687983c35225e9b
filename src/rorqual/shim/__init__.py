"""The shim: one small process a container, forked from a warm spawner; parent of the container's processes.

It owns stdio, logs, attached clients and exit statuses, so that daemons may come and go. Everything here runs in the
shim but `spawner`. Imports stay small (no asyncio, aiohttp, grpclib, protobuf): the layering contract says so.
"""

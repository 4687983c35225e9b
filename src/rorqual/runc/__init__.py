"""The OCI runtime: a library first (rorqual.runc.container), and the `rorqual-runc` command over it.

Imported by the shim's warm parent: nothing here may import asyncio, aiohttp, grpclib or protobuf.
"""

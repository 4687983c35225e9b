"""Images from and to registries: references resolved, blobs fetched and checked, pulls put together, layers unpacked.

rorquald uses everything but `unpack`; rorqual-containerd's workers use `unpack` only (no asyncio, no aiohttp there).
"""

"""The HTTP server around the registry."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from rorqual.distribution.serve import app
from rorqual.distribution.serve.htpasswd import Htpasswd
from rorqual.distribution.serve.store import Store

_KEEPALIVE_S = 75.0
_SHUTDOWN_S = 5.0


@asynccontextmanager
async def listening(
    store: Store, host: str, port: int, *, users: Htpasswd | None, tls: ssl.SSLContext | None, read_only: bool
) -> AsyncIterator[str]:
    """`host:port` while the block lasts; port 0 takes a free one. Raises: OSError."""
    runner = web.AppRunner(
        app.make(store, users, read_only=read_only),
        access_log=None,
        keepalive_timeout=_KEEPALIVE_S,
        shutdown_timeout=_SHUTDOWN_S,
        auto_decompress=False,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, ssl_context=tls).start()
        found = runner.addresses[0]
        name = f"[{found[0]}]" if ":" in found[0] else found[0]
        yield f"{name}:{found[1]}"
    finally:
        await runner.cleanup()

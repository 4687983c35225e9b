"""The registry's inventory: builds, connects and ends its parts."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from rorqual.daemon.registry.store import ContainerdStore
from rorqual.distribution.serve.htpasswd import Htpasswd
from rorqual.distribution.serve.listener import listening
from rorqual.rpc.channel import UnixChannel

_PATIENCE_S = 10.0


@asynccontextmanager
async def serve(
    containerd: str,
    content: Path,
    host: str,
    port: int,
    *,
    local: str,
    users: Htpasswd | None,
    tls: ssl.SSLContext | None,
    read_only: bool,
) -> AsyncIterator[str]:
    """`host:port` that it listens on, while the block lasts. Raises: OSError (the address is taken)."""
    channel = UnixChannel(containerd, patience_s=_PATIENCE_S)
    try:
        store = ContainerdStore(channel, str(Path(containerd).with_name("ingest.sock")), content, local)
        await store.repositories()  # who cannot reach containerd says so before the first client comes
        async with listening(store, host, port, users=users, tls=tls, read_only=read_only) as address:
            yield address
    finally:
        channel.close()

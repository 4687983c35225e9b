"""The asyncio ttrpc server: containerd's side for its shims' Events/Forward calls.

A shim's own server is rorqual.shim.rpcserver, without asyncio. Unary methods only.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping

from rorqual import errdefs
from rorqual.rpc import codes, ttrpc

log = logging.getLogger(__name__)
Handler = Callable[[bytes], Awaitable[bytes]]
_READ_SIZE = 65536


class Server:
    """Serves `methods`, {"package.Service/Method": handler of encoded messages}, on the socket it takes over."""

    def __init__(self, methods: Mapping[str, Handler]) -> None:
        self._methods = methods
        self._server: asyncio.Server | None = None

    async def start(self, listener: socket.socket) -> None:
        """Begin to accept."""
        self._server = await asyncio.start_unix_server(self._serve, sock=listener)

    def close(self) -> None:
        """Stop accepting."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = ttrpc.Parser()
        try:
            while data := await reader.read(_READ_SIZE):
                for frame in parser.feed(data):
                    if frame.kind == ttrpc.REQUEST:
                        response = await self._answer(frame.payload)
                        writer.write(ttrpc.pack(frame.stream_id, ttrpc.RESPONSE, response))
                await writer.drain()
        except (ConnectionError, errdefs.InvalidArgument) as e:
            log.debug("ttrpc: connection dropped: %s", e)
        finally:
            writer.close()

    async def _answer(self, payload: bytes) -> ttrpc.Response:
        try:
            request = ttrpc.Request.decode(payload)
            handler = self._methods.get(f"{request.service}/{request.method}")
            if handler is None:
                raise errdefs.NotImplementedHere(f"ttrpc: {request.service}/{request.method}: unknown method")
            return ttrpc.Response(payload=await handler(request.payload))
        except Exception as e:
            return ttrpc.Response(status=ttrpc.Status(codes.code_of(e), str(e)))

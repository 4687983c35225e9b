"""An HTTP proxy in the test's own event loop: CONNECT tunnels and absolute-form requests, to where a test says."""

import asyncio
import base64
import contextlib
from urllib.parse import urlsplit


class Proxy:
    """`async with` it. `routes`: host[:port] of a request to the port on 127.0.0.1 that stands for it.

    `seen`: the request lines; `login` (user:password) is demanded when given; what has no route gets a 502.
    """

    def __init__(self, routes: dict[str, int], *, login: str = "") -> None:
        self.routes = routes
        self.login = login
        self.seen: list[str] = []

    async def __aenter__(self) -> "Proxy":
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = f"http://{self.login}@127.0.0.1:{self.port}" if self.login else f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while (head := await self._head(reader)) is not None:
                if not await self._one(head, reader, writer):
                    break
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _head(self, reader: asyncio.StreamReader) -> bytes | None:
        try:
            return await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def _one(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        line, _, rest = head.decode().partition("\r\n")
        self.seen.append(line)
        method, target, _ = line.split(" ")
        if self.login:
            wanted = "proxy-authorization: basic " + base64.b64encode(self.login.encode()).decode()
            if wanted.lower() not in rest.lower():
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
                return True
        host = target if method == "CONNECT" else urlsplit(target).netloc
        if host not in self.routes:
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return True
        upstream, out = await asyncio.open_connection("127.0.0.1", self.routes[host])
        try:
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                parts = urlsplit(target)
                path = f"{parts.path}?{parts.query}" if parts.query else parts.path
                out.write(f"{method} {path} HTTP/1.1\r\n{rest}".encode())
            await asyncio.gather(_pump(reader, out), _pump(upstream, writer))
        finally:
            out.close()
        return False


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

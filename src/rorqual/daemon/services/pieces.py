"""Streams of bytes in pieces: put together again, or empty."""

from __future__ import annotations

from collections.abc import AsyncIterator


async def behind(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """`rest` with what was taken from it in front again."""
    yield first
    async for piece in rest:
        yield piece


async def nothing() -> AsyncIterator[bytes]:
    """No piece."""
    return
    yield b""

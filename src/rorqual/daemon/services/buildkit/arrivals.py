"""What may be asked for a moment before it is there: the calls of one build come in any order."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

from rorqual.errdefs import NotFound

T = TypeVar("T")


class Arrivals(Generic[T]):
    """By name. `patience_s`: how long one is waited for; `missing`: the error for one that never comes, with its {}."""

    def __init__(self, missing: str, patience_s: float = 5.0) -> None:
        self._missing = missing
        self._patience_s = patience_s
        self._there: dict[str, T] = {}
        self._changed = asyncio.Condition()

    def __contains__(self, name: str) -> bool:
        return name in self._there

    async def add(self, name: str, value: T) -> None:
        """It is there from now on."""
        async with self._changed:
            self._there[name] = value
            self._changed.notify_all()

    def remove(self, name: str) -> None:
        """It is gone. Raises: KeyError."""
        del self._there[name]

    async def find(self, name: str) -> T:
        """Now, or when it comes. Raises: NotFound."""
        async with self._changed:
            try:
                async with asyncio.timeout(self._patience_s):
                    await self._changed.wait_for(lambda: name in self._there)
            except TimeoutError as e:
                raise NotFound(self._missing.format(name)) from e
            return self._there[name]

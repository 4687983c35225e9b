"""The directories of `RUN --mount=type=cache`: kept from build to build, until `builder prune`.

<data root>/build-cache/<sha256 of the id>/<number>     0, unless private ones are used at once
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from rorqual.builder.dockerfile.mounts import RunMount

_MODE = 0o755


class Caches:
    """Those below `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: Counter[Path] = Counter()

    @asynccontextmanager
    async def using(self, wish: RunMount) -> AsyncIterator[str]:
        """The directory, for the block: locked against others, shared, or one that nobody else has."""
        name = hashlib.sha256(wish.id.encode()).hexdigest()
        path = self._root / name / "0"
        async with AsyncExitStack() as stack:
            if wish.sharing == "locked":
                await stack.enter_async_context(self._locks.setdefault(name, asyncio.Lock()))
            elif wish.sharing == "private":
                path = next(one for n in itertools.count() if not self._users[one := self._root / name / str(n)])
            self._users[path] += 1
            try:
                await asyncio.to_thread(_make, path, wish)
                yield str(path)
            finally:
                self._users[path] -= 1

    async def records(self) -> list[tuple[str, int, bool]]:
        """(name, bytes, whether a build uses it) of each."""
        return [
            (_name(path), await asyncio.to_thread(_size, path), bool(self._users[path]))
            for path in await asyncio.to_thread(self._found)
        ]

    async def prune(self) -> list[tuple[str, int]]:
        """Remove those that nobody uses: (name, bytes) of each."""
        removed: list[tuple[str, int]] = []
        for path in await asyncio.to_thread(self._found):
            if self._users[path]:
                continue
            size = await asyncio.to_thread(_size, path)
            doomed = path.with_name(f"{path.name}.removed")
            path.rename(doomed)  # at once: who comes now makes a new one
            await asyncio.to_thread(shutil.rmtree, doomed)
            removed.append((_name(path), size))
        return removed

    def _found(self) -> list[Path]:
        return sorted(self._root.glob("*/*"))


def _name(path: Path) -> str:
    return f"{path.parent.name[:24]}-{path.name}"


def _make(path: Path, wish: RunMount) -> None:
    if path.is_dir():
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.mkdir()
    os.chown(path, wish.uid, wish.gid)
    path.chmod(_MODE if wish.mode is None else wish.mode)


def _size(path: Path) -> int:
    total = 0
    for directory, _, names in os.walk(path):
        for name in names:
            total += os.lstat(os.path.join(directory, name)).st_blocks * 512
    return total

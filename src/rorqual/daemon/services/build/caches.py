"""Directories that are kept from build to build, until `builder prune`: cache mounts, and clients' contexts.

    <data root>/build-cache/<kind>/<sha256 of the id>/<number>          0, unless private ones are used at once
                                                      <number>.used     whose time is that of the last use

Source: the kinds are BuildKit's types of usage records.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from rorqual.api.diskusage import BuildCache
from rorqual.builder.dockerfile.mounts import RunMount
from rorqual.daemon.services import clock
from rorqual.errdefs import InvalidArgument

_MODE = 0o755
_MOUNT, _CONTEXT = "exec.cachemount", "source.local"
_DESCRIPTIONS = {_MOUNT: "cached mount", _CONTEXT: "local source"}
_DOOMED = ".removed"
_COLLECT_EVERY_S = 3600
_CONDITION = re.compile(r"(\w+)(?:(==|!=|~=)(.*))?", re.DOTALL)
# What is kept here is changed in place, no part of an image, and made from nothing.
_FIELDS: dict[str, Callable[[BuildCache], object]] = {
    "id": lambda record: record.id,
    "type": lambda record: record.type,
    "description": lambda record: record.description,
    "inuse": lambda record: record.in_use,
    "mutable": lambda record: True,
    "immutable": lambda record: False,
    "private": lambda record: True,
    "shared": lambda record: False,
    "parent": lambda record: "",
}
_KEPT_BYTES = 512 * 1000 * 1000
_KEPT_NS = 48 * 3600 * 10**9


class Caches:
    """Those below `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._locks: dict[Path, asyncio.Lock] = {}
        self._users: Counter[Path] = Counter()
        self._collected_s = float("-inf")  # by the monotonic clock
        self._collecting: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def using(self, wish: RunMount) -> AsyncIterator[str]:
        """The directory of a cache mount, for the block."""
        async with self.directory(_MOUNT, wish.id, wish.sharing, partial(_given, wish)) as path:
            yield path

    @asynccontextmanager
    async def context(self, key: str) -> AsyncIterator[str]:
        """A directory for a client's files, for the block and nobody else, with what it had the last time."""
        async with self.directory(_CONTEXT, key, "private", lambda path: None) as path:
            yield path

    @asynccontextmanager
    async def directory(self, kind: str, id: str, sharing: str, made: Callable[[Path], None]) -> AsyncIterator[str]:
        """Locked against others, shared, or one that nobody else has; `made` is called for a new one, in a thread."""
        home = self._root / kind / hashlib.sha256(id.encode(errors="surrogateescape")).hexdigest()
        path = home / "0"
        async with AsyncExitStack() as stack:
            if sharing == "locked":
                await stack.enter_async_context(self._locks.setdefault(home, asyncio.Lock()))
            elif sharing == "private":
                path = next(one for number in itertools.count() if not self._users[one := home / str(number)])
            self._users[path] += 1
            try:
                await asyncio.to_thread(_make, path, made)
                yield str(path)
            finally:
                self._users[path] -= 1
        if time.monotonic() - self._collected_s > _COLLECT_EVERY_S:
            self._collected_s = time.monotonic()
            self._collecting = asyncio.create_task(self.collect(), name="build caches")

    async def collect(self) -> None:
        """What was not used for two days goes when all takes more than 512 MB. Source: BuildKit's default policy."""
        total = sum(record.size for record in await self.records())
        if total > _KEPT_BYTES:
            await self.prune(keep_bytes=_KEPT_BYTES, unused_since_ns=clock.now_ns() - _KEPT_NS)

    async def records(self) -> list[BuildCache]:
        """All of them, in the API's form."""
        return [record for _, record in await asyncio.to_thread(self._all)]

    async def prune(
        self,
        *,
        keep_bytes: int = 0,
        unused_since_ns: int | None = None,
        wanted: Callable[[BuildCache], bool] = lambda record: True,
    ) -> list[BuildCache]:
        """Remove of the `wanted` those that nobody uses, the longest unused first; `keep_bytes` may be left."""
        found = sorted(await asyncio.to_thread(self._all), key=lambda pair: pair[1].last_used_at)
        total = sum(record.size for _, record in found)
        removed: list[BuildCache] = []
        for path, record in found:
            late = unused_since_ns is not None and clock.parse_when(record.last_used_at) > unused_since_ns
            if late or self._users[path] or not wanted(record) or (keep_bytes and total <= keep_bytes):
                continue
            doomed = path.with_name(f"{path.name}{_DOOMED}")
            try:
                path.rename(doomed)  # at once: who comes now makes a new one
                _stamp(path).unlink(missing_ok=True)
            except FileNotFoundError:
                continue  # removed by another who prunes
            await asyncio.to_thread(_remove, doomed)
            total -= record.size
            removed.append(record)
        return removed

    def _all(self) -> list[tuple[Path, BuildCache]]:
        """Blocks."""
        paths = sorted(path for path in self._root.glob("*/*/*") if path.name.isdecimal())
        records = [(path, self._record(path)) for path in paths]
        return [(path, record) for path, record in records if record is not None]

    def _record(self, path: Path) -> BuildCache | None:
        """None when it was removed meanwhile."""
        try:
            used_ns, created_ns = _stamp(path).stat().st_mtime_ns, path.parent.stat().st_mtime_ns
        except FileNotFoundError:
            return None
        return BuildCache(
            id=f"{path.parent.name[:24]}-{path.name}",
            type=path.parents[1].name,
            description=_DESCRIPTIONS[path.parents[1].name],
            in_use=bool(self._users[path]),
            size=_size(path),
            created_at=clock.rfc3339(created_ns),
            last_used_at=clock.rfc3339(used_ns),
            usage_count=1,
        )

    def sweep(self) -> None:
        """Remove what was about to be removed when a daemon was killed (blocking; before builds are served)."""
        for path in self._root.glob(f"*/*/*{_DOOMED}"):
            _stamp(path).unlink(missing_ok=True)
            _remove(path)


def selected(filters: Sequence[str]) -> Callable[[BuildCache], bool]:
    """Whether one of the filters selects a record: `type==exec.cachemount,id~=^d0f6`, `inuse`; none select all.

    Source: containerd's filter syntax, BuildKit's fields of usage records. Raises: InvalidArgument.
    """
    rules = [[_condition(text) for text in filter.split(",") if text] for filter in filters]
    return lambda record: not rules or any(all(condition(record) for condition in rule) for rule in rules)


def _condition(text: str) -> Callable[[BuildCache], bool]:
    found = _CONDITION.fullmatch(text)
    if found is None or found[1] not in _FIELDS:
        raise InvalidArgument(f"invalid filter '{text}'")
    field, operator, value = _FIELDS[found[1]], found[2], found[3]
    if not operator:
        return lambda record: bool(field(record))
    if operator == "~=":
        try:
            pattern = re.compile(value)
        except re.error as e:
            raise InvalidArgument(f"invalid filter '{text}': {e}") from e
        return lambda record: pattern.search(str(field(record))) is not None
    return lambda record: (field(record) == value) is (operator == "==")


def _remove(doomed: Path) -> None:
    shutil.rmtree(doomed)
    for parent in doomed.parents[:2]:
        try:
            parent.rmdir()
        except OSError:
            return  # something else is there


def _stamp(path: Path) -> Path:
    return path.with_suffix(".used")


def _make(path: Path, made: Callable[[Path], None]) -> None:
    while not path.is_dir():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            path.mkdir()
        except FileNotFoundError:
            continue  # what was there before was removed in this moment, its parents too
        made(path)
    _stamp(path).touch()


def _given(wish: RunMount, path: Path) -> None:
    """The owner and mode of a new cache mount."""
    os.chown(path, wish.uid, wish.gid)
    path.chmod(_MODE if wish.mode is None else wish.mode)


def _size(path: Path) -> int:
    total = 0
    for directory, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # a command goes on there
                total += os.lstat(os.path.join(directory, name)).st_blocks * 512
    return total

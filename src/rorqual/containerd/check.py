"""Everything in the store, checked: what a crash, a bad disk or a hand has damaged. Reads only; nothing is mended.

    blobs       each file is there, has its size, and is hashed again
    layers      each unpacked layer is compared with its blob, file by file (overlayfs; others hold their parents' too)
    references  images, manifests and snapshots name what is there
    leftovers   files and directories that no row knows, which the next start would remove

Work goes on meanwhile: what appears or goes during the check is no finding.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass

from rorqual.containerd.content.store import ContentStore
from rorqual.containerd.gc import references
from rorqual.containerd.ingest import UNCOMPRESSED_LABEL
from rorqual.containerd.metadata.database import Database
from rorqual.containerd.metadata.records import Kind, load
from rorqual.containerd.snapshotters.tree import TreeSnapshotter
from rorqual.containerd.workers import WorkerPool
from rorqual.errdefs import Error


@dataclass(frozen=True, slots=True)
class Finding:
    """`kind` is "blob", "layer", "image", "snapshot", "leftover", or, when nothing is wrong, "checked"."""

    kind: str
    subject: str
    problem: str = ""
    size: int = 0


class Checker:
    """One check a call of `run`."""

    def __init__(
        self, db: Database, content: ContentStore, snapshotters: Mapping[str, TreeSnapshotter], workers: WorkerPool
    ) -> None:
        self._db = db
        self._content = content
        self._snapshotters = snapshotters
        self._workers = workers

    async def run(self) -> AsyncIterator[Finding]:
        """What was checked and what is wrong, as it is found."""
        damaged: set[str] = set()
        for digest, size in self._db.rows("SELECT digest, max(size) FROM content GROUP BY digest ORDER BY digest"):
            problem = await self._blob(digest, size)
            if problem and self._content.table.size_elsewhere(digest) is not None:
                damaged.add(digest)
                yield Finding("blob", digest, problem, size)
            else:
                yield Finding("checked", digest, "", size)
        for finding in list(self._references()):
            yield finding
        async for finding in self._snapshots(damaged):
            yield finding
        for path in await self._strange_files():
            if os.path.exists(path):
                yield Finding("leftover", path, "no row knows it")

    async def _blob(self, digest: str, size: int) -> str:
        path = self._content.blobs.path(digest)
        try:
            found = await self._workers.run({"kind": "hash", "path": path, "digest": digest}, [])
        except Error as e:
            return str(e)
        if found["size"] != size:
            return f"{found['size']} bytes instead of {size}"
        if found["digest"] != digest:
            return f"its bytes are those of {found['digest']}"
        return ""

    async def _layer(self, blob: str, directory: str) -> list[str]:
        """What differs between a layer's directory and its blob."""
        job = {"kind": "compare", "path": self._content.blobs.path(blob), "directory": directory}
        try:
            differs: list[str] = (await self._workers.run(job, []))["differs"]
        except Error as e:
            return [str(e)]
        return differs

    def _references(self) -> Iterator[Finding]:
        have = set(self._db.rows("SELECT ns, digest FROM content"))
        for ns, name, digest in self._db.rows("SELECT ns, name, digest FROM images ORDER BY ns, name"):
            if (ns, digest) not in have:
                yield Finding("image", f"{ns}/{name}", f"{digest} is missing")
        for ns, digest, text in self._db.rows("SELECT ns, digest, labels FROM content ORDER BY digest"):
            labels = load(text)
            needed = {k: v for k, v in labels.items() if not k.startswith("containerd.io/gc.ref.content.m.")}
            for node in references(ns, needed):  # an index may be kept without some of its platforms
                if node.type == "content" and (ns, node.key) not in have:
                    yield Finding("blob", digest, f"{node.key}, which it refers to, is missing")

    async def _snapshots(self, damaged: set[str]) -> AsyncIterator[Finding]:
        blobs: dict[tuple[str, str], str] = {}
        for ns, digest, text in self._db.rows("SELECT ns, digest, labels FROM content"):
            if diff_id := load(text).get(UNCOMPRESSED_LABEL):
                blobs[ns, diff_id] = digest
        sql = (
            "SELECT s.id, s.snapshotter, s.ns, s.name, s.kind, ifnull(p.name, '') FROM snapshots s"
            " LEFT JOIN snapshots p ON p.id = s.parent WHERE s.transient = 0 ORDER BY s.id"
        )
        for snapshot_id, snapshotter_name, ns, name, kind, parent in self._db.rows(sql):
            snapshotter = self._snapshotters.get(snapshotter_name)
            subject = f"{snapshotter_name}/{snapshot_id} ({name})"
            if snapshotter is None:
                yield Finding("snapshot", subject, "its snapshotter cannot be had on this machine")
                continue
            directory = snapshotter.driver.layer(snapshot_id)
            if kind == Kind.VIEW:
                continue
            if not os.path.isdir(directory):
                if snapshot_id in snapshotter.table.ids():
                    yield Finding("snapshot", subject, f"{directory} is missing")
                continue
            blob = _blob_of(blobs, ns, name, parent)
            if kind != Kind.COMMITTED or blob is None or blob in damaged or not snapshotter_name.endswith("overlayfs"):
                continue
            problems = await self._layer(blob, directory)
            # The blob is another row: either may have been collected while the two were compared.
            there = snapshot_id in snapshotter.table.ids() and self._content.table.size_elsewhere(blob) is not None
            if problems and there:
                for problem in problems:
                    yield Finding("layer", subject, problem)
            else:
                yield Finding("checked", subject)

    async def _strange_files(self) -> list[str]:
        """The files are listed first and the rows afterwards, so that what is made meanwhile is known."""
        await asyncio.gather(*(asyncio.to_thread(s.finish_removals) for s in self._snapshotters.values()))
        directories, blobs = await asyncio.to_thread(self._files)
        digests = self._content.table.digests()
        ids = {i for snapshotter in self._snapshotters.values() for i in snapshotter.known_ids()}
        # a directory with a higher number may be that of a prepare under way
        strange = [p for p in directories if (i := int(os.path.basename(p))) not in ids and i < max(ids, default=0)]
        return strange + [self._content.blobs.path(digest) for digest in blobs if digest not in digests]

    def _files(self) -> tuple[list[str], list[str]]:
        directories = [p for s in self._snapshotters.values() for p in _numbered(s.driver.root)]
        blobs = [
            f"{algorithm}:{name}"
            for algorithm in ("sha256", "sha512")
            for name in os.listdir(os.path.dirname(self._content.blobs.path(f"{algorithm}:x")))
        ]
        return directories, blobs


def _blob_of(blobs: Mapping[tuple[str, str], str], ns: str, name: str, parent: str) -> str | None:
    """The layer blob of a snapshot that is named by its chain ID; None when it isn't, or the blob is not here.

    Source: image-spec config.md, "Layer ChainID".
    """
    if not parent:
        return blobs.get((ns, name))
    for (where, diff_id), blob in blobs.items():
        if where == ns and name == f"sha256:{hashlib.sha256(f'{parent} {diff_id}'.encode()).hexdigest()}":
            return blob
    return None


def _numbered(root: str) -> list[str]:
    return [f"{root}/{name}" for name in os.listdir(root) if name.isdigit()]

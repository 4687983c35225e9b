"""The check of the store while things go: what is collected in its middle is no finding, what is damaged is one."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rorqual.containerd.check import Checker, Finding
from rorqual.containerd.ingest import UNCOMPRESSED_LABEL
from rorqual.containerd.metadata.records import Kind
from rorqual.errdefs import Internal

DIGEST, DIFF_ID = "sha256:" + "a" * 64, "sha256:" + "b" * 64


class Store:
    """One blob and the layer that it unpacks to; `goes`: which of the two is collected while they are compared."""

    def __init__(self, layer: Path, goes: str) -> None:
        self.goes = goes
        self.blobs, self.layers = {DIGEST}, {1}
        self.blob_files = SimpleNamespace(path=lambda digest: f"/nowhere/{digest}")
        self.content: Any = SimpleNamespace(
            blobs=self.blob_files,
            table=SimpleNamespace(size_elsewhere=lambda digest: 7 if digest in self.blobs else None),
        )
        self.snapshotter: Any = SimpleNamespace(
            driver=SimpleNamespace(layer=lambda number: str(layer)), table=SimpleNamespace(ids=lambda: self.layers)
        )

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        if "FROM content" in sql:
            return [("moby", DIGEST, json.dumps({UNCOMPRESSED_LABEL: DIFF_ID}))]
        return [(1, "overlayfs", "moby", DIFF_ID, Kind.COMMITTED, "")]

    async def run(self, job: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        """WorkerPool.run."""
        if self.goes == "blob":
            self.blobs.clear()
        if self.goes == "layer":
            self.layers.clear()
        raise Internal(f"FileNotFoundError: {job['path']}")

    async def findings(self) -> list[Finding]:
        checker = Checker(self, self.content, {"overlayfs": self.snapshotter}, self)  # type: ignore[arg-type]
        return [finding async for finding in checker._snapshots(set())]


async def test_what_is_collected_during_the_check_is_no_finding(tmp_path: Path) -> None:
    for goes in ("blob", "layer"):
        assert [finding.kind for finding in await Store(tmp_path, goes).findings()] == ["checked"], goes


async def test_a_layer_that_cannot_be_compared_is_one(tmp_path: Path) -> None:
    (finding,) = await Store(tmp_path, "nothing").findings()
    assert finding.kind == "layer" and "FileNotFoundError" in finding.problem

"""A tar of ten million entries, streamed: pull, import and load refuse it at the bound and keep nothing of it."""

import gzip
import hashlib
import http.client
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from support.engine import Engine, _UnixConnection
from support.image import BuiltImage, build
from support.processes import wait_for
from support.registry import Registry, push_built

pytestmark = [pytest.mark.root, pytest.mark.slow]

ENTRIES = 10_000_000
TOLD = "more than 1000000 entries"
_PIECE_ENTRIES = 2048


def piece() -> bytes:
    """Entries that cost nothing but their reading: the root, again and again."""
    root = tarfile.TarInfo("./")
    root.type = tarfile.DIRTYPE
    return root.tobuf() * _PIECE_ENTRIES


def held(engine: Engine) -> set[str]:
    """Every blob, ingest and snapshot on disk."""
    found = {str(p) for p in (engine.data / "content").rglob("*") if p.is_file()}
    return found | {str(p) for p in (engine.data / "snapshots").glob("*/*") if p.name.isdigit()}


@pytest.fixture
def engine(engine: Engine) -> Iterator[Engine]:
    """With a check that a test leaves as little as it found."""
    before = held(engine)
    yield engine
    wait_for(lambda: held(engine) <= before, f"nothing is left: {held(engine) - before}", 20)


def test_import_refuses_it_while_it_comes(engine: Engine) -> None:
    data, sent = piece(), 0

    def pieces() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(ENTRIES // _PIECE_ENTRIES):
            yield data
            sent += 1

    connection = _UnixConnection(engine.socket, 120)
    try:
        path = "/images/create?" + urlencode({"fromSrc": "-", "repo": "bomb"})
        try:
            connection.request("POST", path, pieces(), {"Content-Type": "application/x-tar"}, encode_chunked=True)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the engine has heard enough
        try:
            text = connection.getresponse().read().decode()
            assert TOLD in text
        except (ConnectionResetError, http.client.BadStatusLine):
            assert sent < ENTRIES // _PIECE_ENTRIES  # the answer was lost with the connection
    finally:
        connection.close()
    wait_for(lambda: TOLD in engine.log.read_text(), "the refusal is logged")
    assert sent < ENTRIES // _PIECE_ENTRIES, "it is not read to its end"
    assert engine.api("GET", "/images/bomb/json").status == 404


def test_pull_refuses_it(engine: Engine, tmp_path: Path) -> None:
    # gzip's members may follow one another: the whole is never made
    blob = gzip.compress(piece(), mtime=0) * (ENTRIES // _PIECE_ENTRIES)
    image = build([b""])
    manifest = json.loads(image.manifest)
    manifest["layers"][0] |= {"size": len(blob), "digest": f"sha256:{hashlib.sha256(blob).hexdigest()}"}
    bomb = BuiltImage(json.dumps(manifest).encode(), image.manifest_type, image.config, (blob,), image.diff_ids)
    with engine.inside(), Registry(tmp_path / "registry") as registry:
        push_built(registry, "bomb", bomb)
        result = engine.docker("pull", f"{registry.address}/bomb", code=1, timeout_s=120)
    assert TOLD in result.err
    assert engine.api("GET", f"/images/{registry.address}/bomb/json").status == 404

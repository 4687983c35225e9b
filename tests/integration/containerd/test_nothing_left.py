"""After everything is removed the data root holds nothing; collections while work goes on harm none of it."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from support.engine import Engine
from support.image import busybox_layers, layer_tar
from support.processes import wait_for
from support.registry import Registry, push_image

pytestmark = pytest.mark.root

_TABLES = ("images", "content", "ingests", "snapshots", "containers", "leases", "lease_resources")


def rows(engine: Engine) -> dict[str, int]:
    db = sqlite3.connect(f"file:{engine.data}/meta.db?mode=ro", uri=True)
    try:
        return {table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in _TABLES}
    finally:
        db.close()


def files(engine: Engine) -> list[Path]:
    content = [p for p in (engine.data / "content").rglob("*") if p.is_file()]
    return content + [p for p in (engine.data / "snapshots").glob("*/*") if p.name.isdigit()]


def test_removing_everything_leaves_nothing(fresh_engine: Engine, tmp_path: Path) -> None:
    engine, docker = fresh_engine, fresh_engine.docker
    with engine.inside(), Registry(tmp_path / "registry") as registry:
        push_image(registry, "box", busybox_layers())
        docker("pull", f"{registry.address}/box")
        docker("run", "--name", "one", f"{registry.address}/box", "sh", "-c", "echo x > /x")
        docker("commit", "one", "second")
        docker("save", "-o", f"{tmp_path}/saved.tar", "second")
        docker("load", "-i", f"{tmp_path}/saved.tar")
        docker("tag", "second", "third")
        docker("rm", "one")
        docker("rmi", "second", "third", f"{registry.address}/box", "busybox")
    wait_for(lambda: not any(rows(engine).values()), f"no row is left: {rows(engine)}", 20)
    wait_for(lambda: not files(engine), f"no file is left: {files(engine)}", 20)
    engine.import_busybox()
    docker("run", "--rm", "busybox", "true")


def test_a_collection_harms_no_pull_load_or_commit(fresh_engine: Engine, tmp_path: Path) -> None:
    engine, docker = fresh_engine, fresh_engine.docker
    stop = threading.Event()

    def remove_again_and_again() -> None:
        """Each removal makes the collector run."""
        number = 0
        while not stop.is_set():
            number += 1
            docker("tag", "busybox", f"gone:{number}")
            docker("rmi", f"gone:{number}")

    remover = threading.Thread(target=remove_again_and_again)
    with engine.inside(), Registry(tmp_path / "registry") as registry:
        remover.start()
        try:
            for number in range(3):
                layers = [*busybox_layers(), *(layer_tar({f"f{n}": bytes([number])}) for n in range(6))]
                push_image(registry, f"box{number}", layers)
                name = f"{registry.address}/box{number}"
                docker("pull", name)
                docker("run", "--name", f"c{number}", name, "sh", "-c", "echo x > /x")
                docker("commit", f"c{number}", f"made{number}")
                docker("rm", f"c{number}")
                docker("save", "-o", f"{tmp_path}/x.tar", f"made{number}")
                docker("rmi", f"made{number}", name)
                docker("load", "-i", f"{tmp_path}/x.tar")
                assert docker.out("run", "--rm", f"made{number}", "cat", "/x", "/f5") == f"x\n{chr(number)}"
        finally:
            stop.set()
            remover.join()
    engine.rorqual("system", "check")

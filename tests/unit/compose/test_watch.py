"""What is seen of changing files. Source: Compose Develop Specification."""

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from support.composeproject import IMAGE, make

from rorqual.compose import watch
from rorqual.compose.watch import Watcher
from rorqual.errdefs import InvalidArgument


def rules(directory: Path, **rule: Any) -> list[watch.Trigger]:
    wanted = {"path": ".", "action": "sync", "target": "/t", **rule}
    service = {"build": str(directory), "develop": {"watch": [wanted]}}
    return watch.triggers(make({"a": service}, directory=str(directory)))


def paths(directory: Path, found: list[watch.Change]) -> list[tuple[list[str], list[str]]]:
    def names(of: tuple[str, ...]) -> list[str]:
        return [os.path.relpath(path, directory) for path in of]

    return [(names(change.changed), names(change.gone)) for change in found]


def test_new_other_and_gone(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/old").write_text("1")
    watcher = Watcher(rules(tmp_path))
    assert watcher.scan() == []
    (tmp_path / "new").write_text("1")
    (tmp_path / "link").symlink_to("new")
    os.utime(tmp_path / "d/old", (1, 1))
    assert paths(tmp_path, watcher.scan()) == [(["d/old", "link", "new"], [])]
    (tmp_path / "new").rename(tmp_path / "d/new")
    assert paths(tmp_path, watcher.scan()) == [(["d/new"], ["new"])]
    assert watcher.scan() == []


def test_what_is_ignored(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").write_text("docker/\n!docker/kept\n")
    watcher = Watcher(rules(tmp_path, ignore=["node_modules", "**/*.tmp"]))
    for name in ("node_modules/x", ".git/x", "a/b.tmp", "a/.x.swp", "a/x~", "docker/x", "docker/kept", "a/seen"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert paths(tmp_path, watcher.scan()) == [(["a/seen", "docker/kept"], [])]


def test_what_is_included(tmp_path: Path) -> None:
    watcher = Watcher(rules(tmp_path, include=["*.go", "deep/*.c"]))
    for name in ("a.go", "x/b.go", "x/c.py", "deep/d.c", "e.c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert paths(tmp_path, watcher.scan()) == [(["a.go", "deep/d.c", "x/b.go"], [])]


def test_one_file(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("1")
    (trigger,) = rules(tmp_path, path="one", target="/etc/conf", initial_sync=True)
    watcher = Watcher([trigger])
    assert paths(tmp_path, watcher.everything()) == [(["one"], [])]
    (tmp_path / "other").write_text("")
    assert watcher.scan() == []
    (tmp_path / "one").write_text("22")
    (change,) = watcher.scan()
    with tarfile.open(fileobj=io.BytesIO(watch.archive(change))) as tar:
        assert tar.getnames() == ["etc/conf"]
        assert tar.extractfile("etc/conf").read() == b"22"  # type: ignore[union-attr]


def test_looks_are_put_together(tmp_path: Path) -> None:
    watcher = Watcher(rules(tmp_path))
    found = []
    (tmp_path / "a").write_text("")
    (tmp_path / "b").write_text("")
    found += watcher.scan()
    (tmp_path / "a").unlink()
    found += watcher.scan()
    (tmp_path / "b").write_text("2")
    found += watcher.scan()
    assert paths(tmp_path, watch.merged(found)) == [(["b"], ["a"])]


def test_what_went_meanwhile_is_left_out_of_the_archive(tmp_path: Path) -> None:
    watcher = Watcher(rules(tmp_path))
    (tmp_path / "a").write_text("")
    (tmp_path / "l").symlink_to("a")
    (change,) = watcher.scan()
    (tmp_path / "a").unlink()
    with tarfile.open(fileobj=io.BytesIO(watch.archive(change))) as tar:
        assert [(m.name, m.linkname, m.uid) for m in tar.getmembers()] == [("t/l", "a", 0)]


@pytest.mark.parametrize(
    ("service", "told"),
    [
        ({"develop": {"watch": [{"path": "/", "action": "sync"}]}}, "target is missing"),
        ({"develop": {"watch": [{"path": "/", "action": "rebuild"}]}}, "without a build context"),
        ({"develop": {"watch": [{"path": "none", "action": "restart"}]}}, "/p/none does not exist"),
        ({"develop": {"watch": [{"action": "restart"}]}}, "needs path and action"),
    ],
)
def test_rules_that_cannot_be_followed(service: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidArgument, match=told):
        watch.triggers(make({"a": {**IMAGE, **service}}))

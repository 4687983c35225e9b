"""Volume plugins: found, spoken to, and used by volumes and mounts; the plugin here is a small server of its own."""

import json
import socketserver
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from rorqual.daemon.services.events import Events
from rorqual.daemon.services.filters import Filters
from rorqual.daemon.services.volumemounts import VolumeMounts
from rorqual.daemon.services.volumeplugins import VolumePlugins
from rorqual.daemon.services.volumes import Volumes
from rorqual.daemon.store.daemondb import DaemonDB
from rorqual.daemon.store.journal import Journal
from rorqual.errdefs import Conflict, Internal, NotFound


class Plugin(socketserver.ThreadingUnixStreamServer):
    """Keeps volumes as directories; remembers the calls."""

    daemon_threads = True

    def __init__(self, path: Path, root: Path) -> None:
        self.root = root
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.error = ""
        self.mount_point: Any = None  # instead of the directory
        self.implements = ["VolumeDriver"]
        super().__init__(str(path), _Handler)

    def answer(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        self.calls.append((method, body))
        if self.error and method != "Plugin.Activate":
            return {"Err": self.error}
        if method == "Plugin.Activate":
            return {"Implements": self.implements}
        directory = self.root / body["Name"]
        if method in ("VolumeDriver.Create", "VolumeDriver.Mount"):
            directory.mkdir(exist_ok=True)
        where = self.mount_point or str(directory)
        return {"Mountpoint": where, "Err": ""} if method.endswith(("Mount", "Path")) else {"Err": ""}


class _Handler(BaseHTTPRequestHandler):
    server: Plugin

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        data = json.dumps(self.server.answer(self.path[1:], body)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        return

    def address_string(self) -> str:
        return "unix"


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Plugin]:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "remote").mkdir()
    with Plugin(tmp_path / "plugins" / "far.sock", tmp_path / "remote") as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Nobody:
    def volume_users(self, name: str) -> list[str]:
        return []

    def volume_runners(self, name: str) -> list[str]:
        return []


class Parts:
    """Volumes over a store of their own."""

    def __init__(self, path: Path) -> None:
        self.database = DaemonDB(path / "daemon.db")
        self.database.open()
        self.journal = Journal(path / "events")
        self.journal.open()
        events = Events(self.journal)
        plugins = VolumePlugins((str(path / "plugins"),), (str(path / "specs"),))
        self.volumes = Volumes(self.database, path / "volumes", Nobody(), events, plugins)
        self.volumes.load()
        self.mounts = VolumeMounts(self.volumes, Nobody(), None, path, path / "exec", events)  # type: ignore[arg-type]


@pytest.fixture
async def parts(tmp_path: Path, plugin: Plugin) -> AsyncIterator[Parts]:
    made = Parts(tmp_path)
    yield made
    made.database.close()
    made.journal.close()


async def test_a_volume_of_a_plugin_lives_there(parts: Parts, plugin: Plugin, tmp_path: Path) -> None:
    volume = await parts.volumes.ensure("data", "far", {"tier": "x"}, {"size": "1"})
    assert volume.driver == "far" and volume.mountpoint == str(plugin.root / "data")
    assert ("VolumeDriver.Create", {"Name": "data", "Opts": {"size": "1"}}) in plugin.calls
    assert [v.name for v in parts.volumes.summaries(Filters({"driver": ("far",)}))] == ["data"]
    assert parts.volumes.summaries(Filters({"driver": ("local",)})) == []
    async with parts.mounts.using(volume) as where:
        assert where == str(plugin.root / "data")
    names = [name for name, _ in plugin.calls]
    assert names[-2:] == ["VolumeDriver.Mount", "VolumeDriver.Unmount"]
    assert plugin.calls[-1][1]["ID"] == plugin.calls[-2][1]["ID"]

    again = Parts.__new__(Parts)  # what another daemon finds in the same store
    again.volumes = Volumes(parts.database, tmp_path / "volumes", Nobody(), Events(parts.journal), VolumePlugins())
    again.volumes.load()
    assert again.volumes.get("data").driver == "far"

    await parts.volumes.remove("data", force=False)
    assert plugin.calls[-1] == ("VolumeDriver.Remove", {"Name": "data"})
    assert (plugin.root / "data").is_dir()  # the plugin's files are the plugin's


async def test_the_same_name_with_another_driver_is_a_conflict(parts: Parts, plugin: Plugin) -> None:
    await parts.volumes.ensure("data")
    with pytest.raises(Conflict, match="volume name must be unique"):
        await parts.volumes.ensure("data", "far")


async def test_a_plugins_error_is_told_and_nothing_is_kept(parts: Parts, plugin: Plugin) -> None:
    plugin.error = "no space in the rack"
    with pytest.raises(Internal, match="no space in the rack"):
        await parts.volumes.ensure("data", "far")
    assert parts.volumes.find("data") is None


async def test_plugins_that_are_none(parts: Parts, plugin: Plugin, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match='plugin "nowhere" not found'):
        await parts.volumes.ensure("x1", "nowhere")
    with pytest.raises(NotFound, match="not found"):
        await parts.volumes.ensure("x1", "../far")
    plugin.implements = ["NetworkDriver"]
    with pytest.raises(NotFound, match='plugin "far" not found'):
        await parts.volumes.ensure("x1", "far")
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "dead.spec").write_text(f"unix://{tmp_path}/nothing.sock\n")
    with pytest.raises(NotFound, match="plugin dead"):
        await parts.volumes.ensure("x1", "dead")


async def test_a_plugin_named_by_a_spec_file(parts: Parts, plugin: Plugin, tmp_path: Path) -> None:
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "named.json").write_text(json.dumps({"Addr": f"unix://{tmp_path}/plugins/far.sock"}))
    assert (await parts.volumes.ensure("data", "named")).driver == "named"


@pytest.mark.parametrize("odd", [["/"], {"path": "/"}, 7, "/a\0b", "/a\nb", "relative"])
async def test_a_mount_point_that_is_none_is_refused(plugin: Plugin, tmp_path: Path, odd: Any) -> None:
    driver = await VolumePlugins((str(tmp_path / "plugins"),), ()).driver("far")
    plugin.mount_point = odd
    with pytest.raises(Internal, match="mount point"):
        await driver.mount("v", "user")

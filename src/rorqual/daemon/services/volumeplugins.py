"""Volume plugins, by Docker's protocol: JSON over HTTP on a socket that the plugin serves.

    <name>.sock, <name>/<name>.sock                 in /run/docker/plugins
    <name>.spec (an address), <name>.json           in /etc/docker/plugins and /usr/lib/docker/plugins

Calls are POST /VolumeDriver.<Method>; an answer's "Err" is the plugin's error.
Source: https://docs.docker.com/engine/extend/plugin_api/, https://docs.docker.com/engine/extend/plugins_volume/
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rorqual.errdefs import Internal, NotFound, Unavailable

if TYPE_CHECKING:
    from http.client import HTTPConnection  # at run time with the first plugin: 1.2 MB, with `email`

SOCKETS = ("/run/docker/plugins",)
SPECS = ("/etc/docker/plugins", "/usr/lib/docker/plugins")
_MEDIA_TYPE = "application/vnd.docker.plugins.v1.2+json"
_TIMEOUT_S = 30.0
_ANSWER_MAX = 4 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]*\Z")


def _connection(address: str) -> HTTPConnection:
    """HTTP to `unix:///path`, a path, or `tcp://host:port`; it connects with its first request."""
    from http.client import HTTPConnection

    url = urlsplit(address if "://" in address else f"unix://{address}")
    if url.scheme != "unix":
        return HTTPConnection(url.hostname or "plugin", url.port, timeout=_TIMEOUT_S)

    class UnixConnection(HTTPConnection):
        def connect(self) -> None:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(_TIMEOUT_S)
            self.sock.connect(url.path)

    return UnixConnection("plugin", timeout=_TIMEOUT_S)


class VolumeDriver:
    """One plugin's volumes."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self._address = address

    async def create(self, volume: str, options: Mapping[str, str]) -> None:
        """Make it known to the plugin. Raises: Internal, Unavailable, as all of these."""
        await self.call("VolumeDriver.Create", {"Name": volume, "Opts": dict(options)})

    async def remove(self, volume: str) -> None:
        """Delete it."""
        await self.call("VolumeDriver.Remove", {"Name": volume})

    async def path(self, volume: str) -> str:
        """Where it is on the host; "" while it is nowhere."""
        return str((await self.call("VolumeDriver.Path", {"Name": volume})).get("Mountpoint") or "")

    async def mount(self, volume: str, user: str) -> str:
        """Make it usable for `user`, and say where."""
        found = str((await self.call("VolumeDriver.Mount", {"Name": volume, "ID": user})).get("Mountpoint") or "")
        if not found.startswith("/"):
            raise Internal(f"VolumeDriver.Mount: plugin {self.name} gave no mount point")
        return found

    async def unmount(self, volume: str, user: str) -> None:
        """`user` does not use it any more."""
        await self.call("VolumeDriver.Unmount", {"Name": volume, "ID": user})

    async def call(self, method: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """One call. Raises: Internal with the plugin's error, Unavailable when it does not answer."""
        return await asyncio.to_thread(self._call, method, body)

    def _call(self, method: str, body: Mapping[str, Any]) -> dict[str, Any]:
        from http.client import HTTPException

        connection = _connection(self._address)
        try:
            connection.request("POST", f"/{method}", json.dumps(body), {"Accept": _MEDIA_TYPE, "Host": "plugin"})
            answer = connection.getresponse()
            data = answer.read(_ANSWER_MAX)
        except (OSError, HTTPException) as e:
            raise Unavailable(f"{method}: plugin {self.name}: {e}") from e
        finally:
            connection.close()
        try:
            values = json.loads(data) if data else {}
        except ValueError:
            values = {"Err": data.decode(errors="replace").strip()}
        if not isinstance(values, dict):
            raise Internal(f"{method}: plugin {self.name}: no JSON object")
        if values.get("Err") or answer.status != 200:
            raise Internal(f"{method}: {values.get('Err') or f'plugin {self.name}: status {answer.status}'}")
        return values


class VolumePlugins:
    """Finds plugins; one that has answered once is remembered."""

    def __init__(self, sockets: Sequence[str] = SOCKETS, specs: Sequence[str] = SPECS) -> None:
        self._sockets = sockets
        self._specs = specs
        self._known: dict[str, VolumeDriver] = {}

    async def driver(self, name: str) -> VolumeDriver:
        """Raises: NotFound with Docker's text."""
        known = self._known.get(name)
        if known is not None:
            return known
        address = await asyncio.to_thread(self._find, name)
        missing = NotFound(f'error looking up volume plugin {name}: plugin "{name}" not found')
        if not address:
            raise missing
        found = VolumeDriver(name, address)
        try:
            answer = await found.call("Plugin.Activate", {})
        except (Internal, Unavailable) as e:
            raise NotFound(f"error looking up volume plugin {name}: {e}") from e
        if "VolumeDriver" not in (answer.get("Implements") or ()):
            raise missing
        self._known[name] = found
        return found

    def _find(self, name: str) -> str:
        if not _NAME.match(name):
            return ""
        for directory in self._sockets:
            for path in (f"{directory}/{name}.sock", f"{directory}/{name}/{name}.sock"):
                if os.path.exists(path):
                    return f"unix://{path}"
        for directory in self._specs:
            for base in (Path(directory), Path(directory) / name):
                try:
                    return (base / f"{name}.spec").read_text().strip()
                except OSError:
                    pass
                try:
                    return str(json.loads((base / f"{name}.json").read_text())["Addr"])
                except (OSError, ValueError, LookupError, TypeError):
                    continue
        return ""

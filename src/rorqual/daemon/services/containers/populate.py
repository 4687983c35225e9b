"""Fills a new volume with what the image has where it is mounted, as Docker does.

The root filesystem is mounted in a mount namespace of a child process only: the host's mount table never sees it, and
nothing is left when the child is killed. Paths are opened beneath the root, so a link in the image (CVE-2022-23648)
cannot lead to the host's files. The child is started only when the volume is empty.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

from rorqual.daemon.remote import Mount
from rorqual.errdefs import Internal


class Populator:
    """Runs the copying child."""

    async def populate(self, rootfs: tuple[Mount, ...], path: str, volume: str) -> None:
        """Copy the directory `path` of the root filesystem into `volume`, if that is empty. Raises: Internal."""
        if await asyncio.to_thread(os.listdir, volume):
            return
        request = {
            "mounts": [{"type": m.type, "source": m.source, "options": list(m.options)} for m in rootfs],
            "path": path,
            "volume": volume,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "rorqual.daemon.copyup",
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        _, err = await process.communicate(json.dumps(request).encode())
        if process.returncode:
            raise Internal(f"failed to populate volume: {err.decode(errors='replace').strip()}")

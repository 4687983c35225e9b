"""`rorqual-containerd`: the command. Reads its command line and runs the inventory (inventory.py) until a signal.

    --state  <address>.ttrpc, ingest.sock, spawner.sock, tasks/, runc/          --root  meta.db, content/, snapshots/

SIGTERM or SIGINT: stop serving and exit; shims, and so containers, go on. The spawner ends with this process.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rorqual import errdefs
from rorqual.linux import malloc
from rorqual.linux import process as linux_process

_DEFAULT_ROOT = "/var/lib/rorqual"
_DEFAULT_STATE = "/run/rorqual/containerd"


def main(argv: Sequence[str] | None = None) -> None:
    """Run until a signal."""
    options = _parser().parse_args(argv)
    address = options.address or f"{options.state}/containerd.sock"
    logging.basicConfig(
        stream=sys.stderr,
        level=options.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    os.umask(0o022)
    malloc.one_arena()
    for noisy in ("asyncio", "hpack"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    linux_process.set_name("rorqual-ctrd")
    _without_tls()
    import asyncio

    from rorqual.containerd.inventory import run

    try:
        asyncio.run(run(Path(options.root).absolute(), os.path.abspath(options.state), os.path.abspath(address)))
    except errdefs.Error as e:
        print(f"rorqual-containerd: {e}", file=sys.stderr)  # noqa: T201
        sys.exit(os.EX_TEMPFAIL if isinstance(e, errdefs.Unavailable) else 1)  # another has the root: not for long


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rorqual-containerd", description="content, snapshots, images and tasks")
    parser.add_argument("--root", default=_DEFAULT_ROOT, help="what is kept (default %(default)s)")
    parser.add_argument("--state", default=_DEFAULT_STATE, help="what a reboot clears (default %(default)s)")
    parser.add_argument("--address", "-a", default="", help="gRPC socket (default <state>/containerd.sock)")
    levels = ("debug", "info", "warning", "error")
    parser.add_argument("--log-level", "-l", default="info", choices=levels, help="(default %(default)s)")
    return parser


def _without_tls() -> None:
    """asyncio and grpclib take a missing `ssl` as no TLS: this process has unix sockets only, and saves 1.2 MB."""
    sys.modules.setdefault("ssl", None)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()

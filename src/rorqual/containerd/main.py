"""`rorqual-containerd`: the command. Reads its command line and runs the inventory (inventory.py) until a signal.

    --state  <address>.ttrpc, ingest.sock, spawner.sock, tasks/, runc/          --root  meta.db, content/, snapshots/

SIGTERM or SIGINT: stop serving and exit; shims, and so containers, go on. The spawner ends with this process.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rorqual import commandline, errdefs
from rorqual.commandline import Flag
from rorqual.linux import malloc
from rorqual.linux import process as linux_process

_DEFAULT_ROOT = "/var/lib/rorqual"
_DEFAULT_STATE = "/run/rorqual/containerd"
_ROOT = Flag(("--root",), help=f"what is kept (default {_DEFAULT_ROOT})")
_STATE = Flag(("--state",), help=f"what a reboot clears (default {_DEFAULT_STATE})")
_ADDRESS = Flag(("-a", "--address"), help="gRPC socket (default <state>/containerd.sock)")
_LEVEL = Flag(("-l", "--log-level"), help="(default info)", choices=("debug", "info", "warning", "error"))
_DRIVER = Flag(("--storage-driver",), help="snapshotter that is opened only if it is asked for: devmapper")
_OPTION = Flag(("--storage-opt",), "list", "option of that snapshotter, dm.NAME=VALUE (repeatable)")
_FLAGS = (_ROOT, _STATE, _ADDRESS, _LEVEL, _DRIVER, _OPTION)


def main(argv: Sequence[str] | None = None) -> None:
    """Run until a signal."""
    given = commandline.parse(
        "rorqual-containerd", "Content, snapshots, images and tasks.", _FLAGS, sys.argv[1:] if argv is None else argv
    )
    root, state, address, level = (given.get(flag.name, [""])[-1] for flag in (_ROOT, _STATE, _ADDRESS, _LEVEL))
    driver = given.get("--storage-driver", [""])[-1]
    options = given.get("--storage-opt", [])
    state = state or _DEFAULT_STATE
    address = address or f"{state}/containerd.sock"
    logging.basicConfig(
        stream=sys.stderr,
        level=(level or "info").upper(),
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
        asyncio.run(
            run(
                Path(root or _DEFAULT_ROOT).absolute(),
                os.path.abspath(state),
                os.path.abspath(address),
                driver,
                options,
            )
        )
    except errdefs.Error as e:
        print(f"rorqual-containerd: {e}", file=sys.stderr)  # noqa: T201
        sys.exit(os.EX_TEMPFAIL if isinstance(e, errdefs.Unavailable) else 1)  # another has the root: not for long


def _without_tls() -> None:
    """asyncio and grpclib take a missing `ssl` as no TLS: this process has unix sockets only, and saves 1.2 MB."""
    sys.modules.setdefault("ssl", None)  # type: ignore[arg-type]  # None: importing it raises ImportError


if __name__ == "__main__":
    main()

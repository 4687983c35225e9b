"""`rorquald`: the command. Parses the configuration, starts the engine, and runs until a signal."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Sequence

from rorqual.daemon import config as configuration
from rorqual.daemon.config import DaemonConfig
from rorqual.errdefs import Error
from rorqual.linux import malloc

log = logging.getLogger("rorqual.daemon")

_LEVELS = {"debug": "DEBUG", "info": "INFO", "warn": "WARNING", "error": "ERROR", "fatal": "CRITICAL"}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the daemon; the process's exit status."""
    try:
        line = configuration.parse(sys.argv[1:] if argv is None else argv)
    except Error as e:
        sys.exit(f"rorquald: {e}")
    config = line.config
    if line.validate_only:
        sys.stdout.write("configuration OK\n")
        return
    level = "DEBUG" if config.debug else _LEVELS.get(config.log_level, "CRITICAL")
    logging.basicConfig(stream=sys.stderr, level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for noisy in ("asyncio", "hpack", "aiohttp"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    os.umask(0o022)
    malloc.one_arena()
    try:
        asyncio.run(_run(config))
    except (Error, OSError) as e:
        sys.exit(f"rorquald: {e}")


async def _run(config: DaemonConfig) -> None:
    from rorqual.daemon.engine import Engine
    from rorqual.rpc import stacks

    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    stacks.dump_on_signal()
    engine = Engine(config)
    if config.pidfile:
        _write_pidfile(config.pidfile)
    try:
        await engine.start()
        await engine.serve()
        gc.collect()
        malloc.trim()
        gc.freeze()  # what lives as long as the process is not looked at again
        await stopped.wait()
        log.info("stopping: containers go on")
    finally:
        await engine.stop()
        if config.pidfile:
            os.unlink(config.pidfile)


def _write_pidfile(path: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(str(os.getpid()))


if __name__ == "__main__":
    main()

"""`rorquald`: the command. Parses the configuration, starts the engine, and runs until a signal."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace

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
    logging.basicConfig(
        stream=sys.stderr, level=_level(config), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for noisy in ("asyncio", "hpack", "aiohttp"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    os.umask(0o022)
    malloc.one_arena()
    try:
        asyncio.run(_run(config, sys.argv[1:] if argv is None else argv))
    except (Error, OSError) as e:
        sys.exit(f"rorquald: {e}")


def _level(config: DaemonConfig) -> str:
    return "DEBUG" if config.debug else _LEVELS.get(config.log_level, "CRITICAL")


def _reload(argv: Sequence[str]) -> None:
    """SIGHUP: read the configuration again. The level of the log applies at once, everything else at the next start."""
    try:
        config = configuration.parse(argv).config
    except Error as e:
        log.error("the configuration was not reloaded: %s", e)
        return
    logging.getLogger().setLevel(_level(config))
    log.info("reloaded: the log's level is %s; other directives apply when the daemon starts again", _level(config))


async def _run(config: DaemonConfig, argv: Sequence[str]) -> None:
    from rorqual.daemon.engine import Engine
    from rorqual.rpc import stacks

    if not config.storage_driver:
        from rorqual.daemon import storagedriver

        # another's containerd has a root of its own, which it has looked at itself
        chosen = storagedriver.DEFAULT if config.containerd else storagedriver.choose(config.data_root)
        config = replace(config, storage_driver=chosen)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    loop.add_signal_handler(signal.SIGHUP, _reload, argv)
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

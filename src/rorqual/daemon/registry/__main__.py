"""The registry's process: reads its command line and serves until a signal."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import ssl
import sys
from pathlib import Path

from rorqual.daemon.registry.serving import serve
from rorqual.distribution.serve.htpasswd import Htpasswd
from rorqual.errdefs import Error, InvalidArgument

_DEFAULT_LISTEN = "127.0.0.1:5000"


def main() -> None:
    """Run until SIGINT or SIGTERM; 1 with a message when that cannot be."""
    options = _parser().parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    try:
        host, port = _address(options.listen)
        users = Htpasswd(Path(options.htpasswd)) if options.htpasswd else None
        tls = _tls(options.tls_cert, options.tls_key)
        os.umask(0o077)
        asyncio.run(_until_signal(options, host, port, users, tls))
    except (Error, OSError) as e:
        sys.exit(f"rorqual registry: {e}")


async def _until_signal(
    options: argparse.Namespace, host: str, port: int, users: Htpasswd | None, tls: ssl.SSLContext | None
) -> None:
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    async with serve(
        options.containerd,
        Path(options.root) / "content",
        host,
        port,
        local="" if options.no_local else options.namespace,
        users=users,
        tls=tls,
        read_only=options.read_only,
    ) as address:
        print(f"registry on {'https' if tls else 'http'}://{address}", flush=True)  # noqa: T201 - what the caller waits for
        await stop.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rorqual registry serve", add_help=False)
    parser.add_argument("--listen", default=_DEFAULT_LISTEN)
    parser.add_argument("--containerd", required=True)
    parser.add_argument("--root", required=True)
    parser.add_argument("--namespace", default="moby")
    parser.add_argument("--no-local", action="store_true")
    parser.add_argument("--read-only", action="store_true")
    parser.add_argument("--htpasswd", default="")
    parser.add_argument("--tls-cert", default="")
    parser.add_argument("--tls-key", default="")
    return parser


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise InvalidArgument(f"invalid address {text!r}: host:port is needed")
    return host.removeprefix("[").removesuffix("]") or "0.0.0.0", int(port)


def _tls(certificate: str, key: str) -> ssl.SSLContext | None:
    if not certificate and not key:
        return None
    if not certificate or not key:
        raise InvalidArgument("--tls-cert and --tls-key need each other")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    return context


if __name__ == "__main__":
    main()

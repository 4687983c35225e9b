"""What a long-lived process imports is its idle memory, and the spawner's is every shim's: docs/performance.md."""

import subprocess
import sys

import pytest

# process: (what it imports at its start, what must not be among it)
PROCESSES = {
    "rorquald": (
        "rorqual.daemon.engine",
        "aiohttp yarl attr email http.client urllib.request rorqual.swarm",
    ),
    "rorqual-containerd": (
        "rorqual.containerd.inventory",
        "aiohttp email.message http.client",
    ),
    "spawner": (
        "rorqual.shim.spawner",
        "asyncio aiohttp grpclib google dataclasses typing inspect argparse pathlib shutil ssl hashlib traceback",
    ),
    "unpack worker": ("rorqual.containerd.worker", "asyncio aiohttp grpclib google ssl"),
}


@pytest.mark.parametrize("name", PROCESSES)
def test_a_process_imports_what_it_needs_to_idle(name: str) -> None:
    module, forbidden = PROCESSES[name]
    program = f"import {module}, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(forbidden.split()) & set(done.stdout.split()) == set()


def test_containerd_runs_without_openssl() -> None:
    """Its sockets are unix sockets: asyncio and grpclib go without TLS when `ssl` is not to be had."""
    program = (
        "import sys; from rorqual.containerd import main; main._without_tls()\n"
        "import rorqual.containerd.inventory, asyncio.sslproto\n"
        "print(sys.modules['ssl'], asyncio.sslproto.ssl)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "None None\n"

"""The embedded DNS under load: how long answers take when questions come at a given rate, and what they cost.

    python tests/benchmarks/dns.py [--rate 5000] [--seconds 10]

One container with 300 names on a user-defined network asks for them, each question sent when its time has come,
whatever became of those before.
"""

import argparse
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support import processes
from support.engine import Engine

NAMES = 300


def question(number: int, ident: int) -> bytes:
    name = f"name{number}".encode()
    return struct.pack(">6H", ident, 0x100, 1, 0, 0, 0) + bytes([len(name)]) + name + b"\0" + struct.pack(">2H", 1, 1)


def ask(rate: int, seconds: float) -> None:
    """In the container's network: prints the latencies' quantiles, ms, and how many got no answer."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(("127.0.0.11", 53))
    sock.settimeout(2)
    total = int(rate * seconds)
    sent, got = [0.0] * total, [0.0] * total

    def receive() -> None:
        found = 0
        while found < total:
            try:
                data = sock.recv(512)
            except TimeoutError:
                return
            now = time.perf_counter()
            index = struct.unpack(">H", data[:2])[0]
            while index < total and got[index]:
                index += 1 << 16
            got[index] = now
            found += 1

    receiver = threading.Thread(target=receive)
    receiver.start()
    start = time.perf_counter()
    for index in range(total):
        due = start + index / rate
        while (left := due - time.perf_counter()) > 0:
            time.sleep(left if left > 0.0005 else 0)
        sent[index] = time.perf_counter()
        sock.send(question(index % NAMES, index & 0xFFFF))
    receiver.join()
    times = sorted((b - a) * 1000 for a, b in zip(sent, got, strict=True) if b)
    at = lambda share: times[int(share * (len(times) - 1))]  # noqa: E731
    lost = total - len(times)
    print(f"{total} questions at {rate}/s: p50 {at(0.5):.2f} ms, p99 {at(0.99):.2f} ms, worst {at(1):.1f}, lost {lost}")


def processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--ask", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        ask(options.rate, options.seconds)
        return 0
    with Engine() as engine:
        engine.docker("network", "create", "bench")
        aliases = [word for number in range(NAMES) for word in ("--network-alias", f"name{number}")]
        engine.docker("run", "-d", "--name", "box", "--network", "bench", *aliases, "busybox", "sleep", "3600")
        pid = engine.inspect("box")["State"]["Pid"]
        found = processes.belonging(engine.marker, engine.cgroup_parent)
        (resolver,) = (p.pid for p in found if "libnetwork.dns.server" in p.command)
        inside = ["nsenter", f"--net=/proc/{pid}/ns/net", sys.executable, __file__, "--ask"]
        before = processor_s(resolver)
        subprocess.run([*inside, "--rate", str(options.rate), "--seconds", str(options.seconds)], check=True)
        spent = processor_s(resolver) - before
        print(f"{spent / (options.rate * options.seconds) * 1e6:.0f} us of processor an answer")
    return 0


if __name__ == "__main__":
    sys.exit(main())

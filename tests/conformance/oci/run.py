#!/usr/bin/env python3
"""The OCI validation suite (opencontainers/runtime-tools, `validation/*`) against rorqual-runc, and against a peer.

    run.py --source DIR                       all against rorqual-runc; exit status 1 when one is worse than expected
    run.py --source DIR --peer /usr/sbin/runc the peer too, and what differs
    run.py --source DIR --only state,hooks    some programs
    run.py --source DIR --update              write expected.tsv

DIR is a clone of https://github.com/opencontainers/runtime-tools (source.lock names the commit); without --source it is
cloned. The programs are Go: built in DIR, once, by the `go` on PATH (1.21 or newer) from the vendored modules. Needs
root; every container's state and cgroups are the suite's own. Takes about three minutes a runtime.

A program passes when it ends with 0, made at least one assertion and none failed. The programs' output is TAP.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
EXPECTED = HERE / "expected.tsv"
LOCK = HERE / "source.lock"
OURS = Path(sys.executable).parent / "rorqual-runc"
TIMEOUT_S = 90

_ASSERTION = re.compile(r"^(not ok|ok) \d+(?: - )?(.*)$")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one program said. `reason`: the first thing that went wrong."""

    passed: bool
    ok: int
    failed: tuple[str, ...]
    reason: str

    @property
    def word(self) -> str:
        return "pass" if self.passed else "fail"


def parse(output: str, status: int, errors: str) -> Outcome:
    """A program's TAP. A skipped assertion (`# SKIP`) is none."""
    ok, failed = 0, []
    for line in output.splitlines():
        found = _ASSERTION.match(line)
        if found is None or "# SKIP" in line.upper():
            continue
        if found[1] == "ok":
            ok += 1
        else:
            failed.append(found[2])
    said = errors.strip().splitlines()
    reason = failed[0] if failed else (said[-1] if said else f"exit status {status}") if status or not ok else ""
    if not ok and not failed and not status:
        reason = "it made no assertion (skipped)"
    return Outcome(status == 0 and ok > 0 and not failed, ok, tuple(failed), reason)


def prepare(source: Path) -> None:
    """Build what isn't built yet."""
    programs = source / "bin"
    if programs.exists() and (source / "runtimetest").exists():
        return
    go = shutil.which("go")
    if go is None:
        raise SystemExit("the programs are written in Go: install golang-go (1.21 or newer)")
    environment = {**os.environ, "GOFLAGS": "-mod=vendor", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
    programs.mkdir(exist_ok=True)
    subprocess.run([go, "build", "-o", "runtimetest", "./cmd/runtimetest"], cwd=source, env=environment, check=True)
    subprocess.run([go, "build", "-o", "bin/", "./validation/..."], cwd=source, env=environment, check=True)


@contextmanager
def wrapped(runtime: Path) -> Iterator[Path]:
    """A command that is the runtime with a state directory of its own; containers left in it are removed."""
    with tempfile.TemporaryDirectory(prefix="oci-") as directory:
        root = Path(directory) / "root"
        command = Path(directory) / runtime.name
        command.write_text(f'#!/bin/sh\nexec {runtime} --root {root} "$@"\n')
        command.chmod(0o755)
        try:
            yield command
        finally:
            for left in sorted(root.glob("[!.]*")) if root.exists() else []:
                subprocess.run([command, "delete", "--force", left.name], check=False, capture_output=True)


def run_program(program: Path, runtime: Path, source: Path) -> Outcome:
    environment = {**os.environ, "RUNTIME": str(runtime)}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        started = subprocess.Popen(
            [program], cwd=source, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err, process_group=0
        )
        try:
            status = started.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)
            status = started.wait()
        out.seek(0)
        err.seek(0)
        return parse(out.read(), status, err.read())


def run_all(runtime: Path, programs: list[Path], source: Path) -> dict[str, Outcome]:
    found = {}
    with wrapped(runtime) as command:
        for program in programs:
            found[program.name] = run_program(program, command, source)
            print(f"  {found[program.name].word} {program.name} {found[program.name].reason}", flush=True)
    passed = [o for o in found.values() if o.passed]
    print(
        f"{runtime}: {len(passed)} of {len(found)} programs, "
        f"{sum(o.ok for o in found.values())} ok, {sum(len(o.failed) for o in found.values())} not ok"
    )
    return found


def expected() -> dict[str, str]:
    """program -> pass or fail."""
    if not EXPECTED.exists():
        return {}
    lines = (line.split("\t") for line in EXPECTED.read_text().splitlines() if line and not line.startswith("#"))
    return {fields[0]: fields[1] for fields in lines}


def compare(ours: dict[str, Outcome], peer: dict[str, Outcome]) -> None:
    for name, outcome in ours.items():
        other = peer[name]
        if outcome.passed != other.passed:
            print(f"{name}: {outcome.word} here, {other.word} there: {outcome.reason or other.reason}")
        for text in set(outcome.failed) - set(other.failed):
            print(f"{name}: only here not ok: {text}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path)
    parser.add_argument("--runtime", type=Path, default=OURS)
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--update", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="runtime-tools-") as fresh:
        source = options.source or clone(Path(fresh))
        prepare(source)
        chosen = [name for name in options.only.split(",") if name]
        programs = [p for p in sorted((source / "bin").iterdir()) if not chosen or p.name in chosen]
        found = run_all(options.runtime, programs, source)
        if options.peer:
            compare(found, run_all(options.peer, programs, source))
    before = expected()
    worse = [name for name, o in found.items() if before.get(name) == "pass" and not o.passed]
    if options.update:
        head = "# program\toutcome of rorqual-runc\tassertions ok\tnot ok\n"
        lines = [f"{name}\t{o.word}\t{o.ok}\t{len(o.failed)}\n" for name, o in found.items()]
        EXPECTED.write_text(head + "".join(lines))
    elif worse:
        print("worse than expected: " + ", ".join(worse))
    passed = sum(o.passed for o in found.values())
    print(f"{passed} passed, {len(found) - passed} failed")
    return int(bool(worse) and not options.update)


def clone(directory: Path) -> Path:
    url, commit = LOCK.read_text().split()
    subprocess.run(["git", "clone", "-q", url, directory / "source"], check=True)
    subprocess.run(["git", "-C", directory / "source", "checkout", "-q", commit], check=True)
    return directory / "source"


if __name__ == "__main__":
    sys.exit(main())

"""Take each protection out of a copy of the tree and run its test, which must fail: `make test-mutation`.

    run.py [WORD ...]    only mutations whose text or test has one of the words

Each test is first run unchanged and must pass. Only a failed assertion or call counts as a failure: a test that could
not be collected or set up (an engine that does not start) proves nothing. A test that is tried here must do no harm to
the host where it finds the way open: it writes what is there already, and to files of its own. Needs root; takes about half an hour, most of
it the start of engines. The copy is below the directory for temporary files and is removed.
"""

import argparse
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mutation import archives, build, compose, images, network, runtime, shim, swarm
from mutation.mutations import REPOSITORY, Mutation

MUTATIONS: tuple[Mutation, ...] = tuple(
    m for area in (runtime, shim, archives, images, build, network, swarm, compose) for m in area.MUTATIONS
)
_LIMIT_S = 400
_PASSED, _FAILED = 0, 1  # pytest's exit statuses; the others are for what is no test's outcome


class Copy:
    """A copy of the tree as it is now, and the tests of it."""

    def __init__(self, top: Path) -> None:
        self._top = top
        # Compiled files are chosen by seconds and size: each change gets a second of its own.
        self._seconds = itertools.count(int(time.time()) + 10, 10)
        for name in ("src", "tests", "scripts", "docs", "pyproject.toml", "CHANGELOG.md"):
            source = REPOSITORY / name
            ignored = shutil.ignore_patterns("__pycache__")
            if source.is_dir():
                shutil.copytree(source, top / name, ignore=ignored)
            else:
                shutil.copy(source, top / name)

    def write(self, file: str, text: str) -> None:
        path = self._top / "src/rorqual" / file
        path.write_text(text)
        second = next(self._seconds)
        os.utime(path, (second, second))

    def outcome(self, test: str) -> tuple[int, str]:
        """pytest's exit status and its short summary; a hang is a failure, too."""
        line = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--tb=line", "-rfE", test]
        environment = {**os.environ, "PYTHONPATH": str(self._top / "src")}
        try:
            done = subprocess.run(
                line, cwd=self._top, env=environment, capture_output=True, text=True, timeout=_LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired:
            return _FAILED, f"FAILED {test} - no end within {_LIMIT_S} s"
        shown = [text for text in done.stdout.splitlines() if text.startswith(("FAILED", "ERROR"))]
        if done.returncode == _PASSED and " skipped" in done.stdout and " passed" not in done.stdout:
            return -1, "skipped here"
        return done.returncode, (shown or done.stdout.splitlines()[-1:] or [done.stderr[-200:]])[0]

    def mutated(self, mutation: Mutation) -> tuple[int, str]:
        """The outcome of the test without the protection, which is then put back."""
        originals = {e.file: (self._top / "src/rorqual" / e.file).read_text() for e in mutation.edits}
        try:
            for edit in mutation.edits:
                self.write(edit.file, edit.applied(self._top))
            return self.outcome(mutation.test)
        finally:
            for file, text in originals.items():
                self.write(file, text)


def verdict(copy: Copy, mutation: Mutation, passing: dict[str, str]) -> str:
    """ "" when the test passes with the protection and fails without it; else what is wrong. `passing` is kept between
    calls: what each test was found to do unchanged."""
    if mutation.test not in passing:
        status, summary = copy.outcome(mutation.test)
        if status == _FAILED:
            status, summary = copy.outcome(mutation.test)  # a busy machine's first try
        passing[mutation.test] = "" if status == _PASSED else f"fails unchanged: {summary}"
    if passing[mutation.test]:
        return passing[mutation.test]
    status, summary = copy.mutated(mutation)
    print(f"      {summary[:200]}", flush=True)
    if status == _FAILED and summary.startswith("FAILED"):
        return ""
    return "passes without the protection" if status == _PASSED else f"no failure of the test's own: {summary}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*")
    words = parser.parse_args().words
    chosen = [m for m in MUTATIONS if not words or any(word in m.removed + m.test for word in words)]
    wrong = []
    passing: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="mutation-") as directory:
        copy = Copy(Path(directory))
        for number, mutation in enumerate(chosen, 1):
            print(f"{number}/{len(chosen)} {mutation.test}\n      without: {mutation.removed}", flush=True)
            found = verdict(copy, mutation, passing)
            print(f"      {found or 'ok'}", flush=True)
            if found:
                wrong.append(f"{mutation.test}, without {mutation.removed}: {found}")
    print(f"{len(chosen) - len(wrong)} of {len(chosen)} tests fail without what they prove", *wrong, sep="\n  ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

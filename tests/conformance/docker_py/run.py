"""Runs docker-py's own integration tests, from its source distribution, against a fresh engine.

    python tests/conformance/docker_py/run.py            the groups below; exit status 1 on a regression
    python tests/conformance/docker_py/run.py --all      every integration test of docker-py
    python tests/conformance/docker_py/run.py --update   write what came out into expected.tsv (with --peer: its column)
    python tests/conformance/docker_py/run.py --peer dockerd   against a stock dockerd, to tell its faults from ours

docker-py has an environment of its own below build/, made from lock files with hashes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import venv
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
sys.path.insert(0, str(REPOSITORY / "tests"))

from support.busybox import rootfs_tar  # noqa: E402
from support.engine import Engine  # noqa: E402
from support.image import layer_tar  # noqa: E402
from support.peer import Dockerd  # noqa: E402
from support.registry import Registry, push_image  # noqa: E402

WORK = REPOSITORY / "build" / "docker-py"
SOURCE = WORK / "docker-7.0.0"
PYTHON = WORK / "venv" / "bin" / "python"
EXPECTED = HERE / "expected.tsv"
# Stands in for Docker Hub, in the engine's own network.
HUB_PORT = 5000
HUB_IMAGES = ("alpine:3.10", "alpine:latest", "busybox:latest", "hello-world:latest")
GROUPS = (
    "api_build_test.py",
    "api_client_test.py",
    "api_container_test.py",
    "api_exec_test.py",
    "api_healthcheck_test.py",
    "api_image_test.py",
    "api_network_test.py",
    "api_volume_test.py",
    "client_test.py",
    "errors_test.py",
    "models_containers_test.py",
    "models_images_test.py",
    "models_networks_test.py",
    "models_volumes_test.py",
    "regression_test.py",
)


def prepare() -> None:
    """The environment and the unpacked source, unless they are there."""
    if SOURCE.is_dir() and PYTHON.exists():
        return
    WORK.mkdir(parents=True, exist_ok=True)
    venv.create(WORK / "venv", with_pip=True, clear=True)
    pip = [str(PYTHON), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "install", "--require-hashes", "--no-deps", "-r", str(HERE / "requirements.lock")], check=True
    )
    fetch = ["download", "--no-binary", ":all:", "--no-deps", "--require-hashes", "--dest", str(WORK)]
    subprocess.run([*pip, *fetch, "-r", str(HERE / "source.lock")], check=True)
    subprocess.run(["tar", "-C", str(WORK), "-xzf", str(WORK / "docker-7.0.0.tar.gz")], check=True)


def outcomes(engine: Engine, paths: list[str]) -> dict[str, str]:
    """pass, fail or skip of each test, by `file::class::test`."""
    report = WORK / "report.xml"
    report.unlink(missing_ok=True)
    # Their test image is alpine; what they use of it busybox has too, and no outside registry is needed.
    for tag in ("3.10", "latest"):
        engine.import_busybox(f"alpine:{tag}")
    environment = {**os.environ, "DOCKER_HOST": engine.host, "PYTHONPATH": str(SOURCE), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTEST_ADDOPTS", None)
    arguments = ["-q", "--tb=line", "--timeout=60", "-p", "no:cacheprovider", f"--junitxml={report}"]
    with engine.inside():
        done = subprocess.run(
            [str(PYTHON), "-m", "pytest", *arguments, *paths], cwd=SOURCE, env=environment, check=False
        )
    if not report.exists():
        raise SystemExit(f"docker-py's tests did not run: exit status {done.returncode}")
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        module, _, name = case.get("classname", "").removeprefix("tests.integration.").rpartition(".")
        kinds = {child.tag for child in case}
        outcome = "fail" if kinds & {"failure", "error"} else "skip" if "skipped" in kinds else "pass"
        found[f"{module}.py::{name}::{case.get('name')}"] = outcome
    return found


def expected() -> dict[str, tuple[str, str]]:
    """What came out here and with dockerd 20.10, by test; "" where it was not run."""
    if not EXPECTED.exists():
        return {}
    lines = (line.split("\t") for line in EXPECTED.read_text().splitlines() if line and not line.startswith("#"))
    return {name: (here, there[0] if there else "") for name, here, *there in lines}


def update(found: dict[str, str], before: dict[str, tuple[str, str]], column: int) -> None:
    """Write what was found into its column."""
    head = "# docker-py 7.0.0's integration tests: here (a pass that becomes a fail is a regression), dockerd 20.10\n"
    rows = dict(before)
    for test, outcome in found.items():
        row = list(rows.get(test, ("", "")))
        row[column] = outcome
        rows[test] = (row[0], row[1])
    EXPECTED.write_text(head + "".join(f"{test}\t{here}\t{there}\n" for test, (here, there) in sorted(rows.items())))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--peer", choices=("dockerd",))
    options = parser.parse_args()
    prepare()
    paths = ["tests/integration"] if options.all else [f"tests/integration/{name}" for name in GROUPS]
    mirror = f"--registry-mirror=http://127.0.0.1:{HUB_PORT}"
    with (
        (Dockerd if options.peer else Engine)(mirror) as engine,
        tempfile.TemporaryDirectory() as directory,
        engine.inside(),
        Registry(Path(directory), port=HUB_PORT) as hub,
    ):
        for image in HUB_IMAGES:
            name, _, tag = image.partition(":")
            # A layer of its own for each: what removing it frees is counted.
            layers = [rootfs_tar(), layer_tar({"name": image.encode()})]
            push_image(hub, f"library/{name}", layers, {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]}, tag=tag)
        found = outcomes(engine, paths)
    recorded = expected()
    column = 1 if options.peer else 0
    before = {test: both[column] for test, both in recorded.items() if both[column]}
    for test, outcome in sorted(found.items()):
        was = before.get(test)
        note = "" if was in (None, outcome) else f"   (expected: {was})"
        print(f"{outcome:5} {test}{note}")
    worse = [test for test, outcome in before.items() if outcome == "pass" and found.get(test, "gone") not in ("pass",)]
    worse = [test for test in worse if options.all or test.split("::")[0] in GROUPS]
    counts = Counter(found.values())
    if options.update:
        update(found, recorded, column)
    elif worse:
        print("worse than expected:\n  " + "\n  ".join(worse))
    print(f"{counts['pass']} passed, {counts['fail']} failed, {counts['skip']} skipped")
    return int(bool(worse) and not options.update)


if __name__ == "__main__":
    sys.exit(main())

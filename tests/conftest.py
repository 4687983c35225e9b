"""Fixtures that every test may use. Starting an engine costs half a second, so tests share one unless they hurt it."""

import os
import shutil
import signal
from collections.abc import Iterator

import pytest
from support.engine import Cli, Engine
from support.peer import Dockerd

COMMAND_LINES = ("docker", "rorqual")

# A shell that runs the tests in the background has them ignore it, and so would the programs that they send it to.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--peer", choices=("dockerd",), help="run the engine's tests against this one instead, to prove the tests"
    )


@pytest.fixture(scope="session")
def engine_kind(request: pytest.FixtureRequest) -> type[Engine]:
    return Dockerd if request.config.getoption("peer") == "dockerd" else Engine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need root are skipped, not failed, for everybody else."""
    if os.geteuid() != 0:
        for item in items:
            if "root" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture(scope="session")
def shared_engine(engine_kind: type[Engine]) -> Iterator[Engine]:
    """One engine for the whole session, with the image busybox. Its end checks that all the tests left nothing."""
    with engine_kind() as engine:
        yield engine


@pytest.fixture
def engine(shared_engine: Engine) -> Iterator[Engine]:
    """The shared engine, as every test finds it: nothing but the image busybox:latest, the daemon running."""
    yield shared_engine
    restore(shared_engine)


def restore(engine: Engine) -> None:
    """Undo what a test did or failed to undo, so that no test can make another fail."""
    if not engine.pids("rorquald"):
        engine.start()
    for container in engine.api("GET", "/containers/json?all=1").json:
        engine.api("DELETE", f"/containers/{container['Id']}?force=1&v=1")
    engine.api("POST", "/networks/prune")
    for volume in engine.api("GET", "/volumes").json["Volumes"] or ():
        engine.api("DELETE", f"/volumes/{volume['Name']}?force=1")
    names = set()
    for image in engine.api("GET", "/images/json").json:
        names |= {*(image["RepoTags"] or ())} or {*(image["RepoDigests"] or ())} or {image["Id"]}
    for name in names - {"busybox:latest"}:
        engine.api("DELETE", f"/images/{name}?force=1")
    if "busybox:latest" not in names:
        engine.import_busybox()


@pytest.fixture
def fresh_engine(engine_kind: type[Engine]) -> Iterator[Engine]:
    """An engine of the test's own, for what would disturb others."""
    with engine_kind() as engine:
        yield engine


@pytest.fixture(params=COMMAND_LINES)
def cli(request: pytest.FixtureRequest, engine: Engine) -> Cli:
    """Each of the two command lines on the shared engine."""
    return bound(request.param, engine)


@pytest.fixture(params=COMMAND_LINES)
def fresh_cli(request: pytest.FixtureRequest, fresh_engine: Engine) -> Cli:
    """Each of the two command lines on an engine of the test's own."""
    return bound(request.param, fresh_engine)


def bound(name: str, engine: Engine) -> Cli:
    if name == "docker" and not shutil.which("docker"):
        pytest.skip("the stock docker CLI is not installed")
    return engine.docker if name == "docker" else engine.rorqual

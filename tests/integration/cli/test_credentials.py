"""Logins of both command lines: kept in config.json or by a program of the user's, and used for pulls and pushes."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.busybox import rootfs_tar
from support.engine import Cli, Engine
from support.registry import PASSWORD, USERNAME, Registry, push_image

pytestmark = pytest.mark.root

# The protocol: the verb as argument, the rest on standard input. It notes each call.
HELPER = """#!/bin/sh
store={directory}/store
read -r line || true
echo "$1 $line" >> {directory}/calls
case $1 in
store) printf '%s' "$line" > "$store" ;;
get)
    if [ -e "$store" ]; then cat "$store"; else echo "credentials not found in native keychain"; exit 1; fi ;;
erase) rm -f "$store" ;;
*) echo "unknown verb"; exit 1 ;;
esac
"""


@pytest.fixture(scope="module")
def own() -> Iterator[Engine]:
    with Engine(own_network=False, image=False) as engine:
        yield engine


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with Registry(tmp_path_factory.mktemp("registry"), htpasswd=True) as registry:
        push_image(registry, "secret", [rootfs_tar()], {"Cmd": ["true"]}, tag="1")
        yield registry


class Home:
    """A user's configuration directory, with a credential helper `test` on the path."""

    def __init__(self, directory: Path, cli: Cli) -> None:
        self.directory = directory
        helper = directory / "docker-credential-test"
        helper.write_text(HELPER.format(directory=directory))
        helper.chmod(0o755)
        self.config = directory / "config.json"
        cli.env = {"DOCKER_CONFIG": str(directory), "PATH": f"{directory}:{os.environ['PATH']}"}
        self.cli = cli

    def configure(self, **keys: object) -> None:
        self.config.write_text(json.dumps(keys))

    def calls(self) -> list[str]:
        path = self.directory / "calls"
        return [line.split(" ")[0] for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture(params=["docker", "rorqual"])
def home(request: pytest.FixtureRequest, own: Engine, tmp_path: Path) -> Home:
    return Home(tmp_path, Cli(own, request.param))


def use(home: Home, registry: Registry) -> None:
    """Pulls and pushes with what is stored."""
    name = f"{registry.address}/secret:1"
    home.cli("pull", "-q", name)
    home.cli("tag", name, f"{registry.address}/pushed:1")
    home.cli("push", "-q", f"{registry.address}/pushed:1")
    home.cli("rmi", name, f"{registry.address}/pushed:1")


def login(home: Home, registry: Registry, password: str = PASSWORD, code: int = 0) -> str:
    arguments = ("login", "-u", USERNAME, "--password-stdin", registry.address)
    return home.cli(*arguments, stdin=password.encode(), code=code).err


def test_a_login_is_kept_in_the_file_and_forgotten(home: Home, registry: Registry) -> None:
    home.configure()
    assert "no basic auth credentials" in home.cli("pull", f"{registry.address}/secret:1", code=1).err
    assert "401" in login(home, registry, "wrong", code=1)
    login(home, registry)
    assert registry.address in json.loads(home.config.read_text())["auths"]
    use(home, registry)
    home.cli("logout", registry.address)
    assert "no basic auth credentials" in home.cli("pull", f"{registry.address}/secret:1", code=1).err


@pytest.mark.parametrize("key", ["credsStore", "credHelpers"])
def test_a_helper_keeps_the_password_out_of_the_file(home: Home, registry: Registry, key: str) -> None:
    home.configure(**{key: "test" if key == "credsStore" else {registry.address: "test"}})
    login(home, registry)
    assert PASSWORD not in home.config.read_text() and 'auth":' not in home.config.read_text().replace("auths", "")
    kept = json.loads((home.directory / "store").read_text())
    assert kept == {"ServerURL": registry.address, "Username": USERNAME, "Secret": PASSWORD}
    use(home, registry)
    assert {"store", "get"} <= set(home.calls())
    home.cli("logout", registry.address)
    assert home.calls()[-1] == "erase" and not (home.directory / "store").exists()
    assert "no basic auth credentials" in home.cli("pull", f"{registry.address}/secret:1", code=1).err


def test_a_helper_of_another_registry_is_not_asked(home: Home, registry: Registry) -> None:
    home.configure(credHelpers={"other.test": "test"})
    login(home, registry)
    use(home, registry)
    assert home.calls() == []


def test_what_one_command_line_stored_the_other_uses(own: Engine, registry: Registry, tmp_path: Path) -> None:
    homes = [Home(tmp_path, Cli(own, name)) for name in ("docker", "rorqual")]
    for writer, reader in (homes, homes[::-1]):
        for keys in ({}, {"credsStore": "test"}):
            writer.configure(**keys)
            login(writer, registry)
            use(reader, registry)
            reader.cli("logout", registry.address)

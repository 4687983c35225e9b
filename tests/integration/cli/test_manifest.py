"""`manifest`: indexes put together and pushed, by ours and by the stock client, with the same outcome."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.engine import command
from support.image import build, layer_tar
from support.registry import PASSWORD, USERNAME, Registry, push_built

pytestmark = pytest.mark.root

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with Registry(tmp_path_factory.mktemp("registry")) as registry:
        for architecture in ("amd64", "arm64"):
            image = build([layer_tar({architecture: b"x"})], architecture=architecture)
            push_built(registry, f"team/{architecture}", image, "1")
        yield registry


@pytest.fixture(params=["rorqual", "docker"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    program = command("rorqual") if request.param == "rorqual" else shutil.which("docker")
    if program is None:
        pytest.skip("the docker command is not installed")
    environment = {**os.environ, "DOCKER_CONFIG": str(tmp_path), "DOCKER_HOST": "unix:///nowhere"}

    def call(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        # The stock client takes no loopback registry for one without TLS.
        insecure = ["--insecure"] if arguments[0] in ("create", "inspect", "push") else []
        done = subprocess.run(
            [program, "manifest", arguments[0], *insecure, *arguments[1:]],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done
        return done

    return call


def test_an_index_is_made_annotated_and_pushed(registry: Registry, run: Run, tmp_path: Path) -> None:
    index = f"{registry.address}/team/all:1"
    parts = [f"{registry.address}/team/{name}:1" for name in ("amd64", "arm64")]
    assert run("create", index, *parts).stdout == f"Created manifest list {index}\n"
    assert "no --amend flag" in run("create", index, *parts, code=1).stderr
    run("annotate", index, parts[1], "--variant", "v8", "--os-features", "one")
    draft = json.loads(run("inspect", index).stdout)
    assert [m["platform"]["architecture"] for m in draft["manifests"]] == ["amd64", "arm64"]
    assert json.loads(run("inspect", index, parts[0]).stdout)["schemaVersion"] == 2
    digest = run("push", "--purge", index).stdout.splitlines()[-1]
    assert digest.startswith("sha256:")
    assert not list((tmp_path / "manifests").glob("*"))
    pushed = json.loads(run("inspect", index).stdout)
    assert pushed["manifests"][1]["platform"] == {
        "architecture": "arm64",
        "os": "linux",
        "os.features": ["one"],
        "variant": "v8",
    }
    verbose = json.loads(run("inspect", "-v", index).stdout)
    assert [entry["Descriptor"]["platform"]["architecture"] for entry in verbose] == ["amd64", "arm64"]
    # The blobs were mounted: the index's repository serves them itself.
    one = json.loads(run("inspect", f"{registry.address}/team/all@{pushed['manifests'][0]['digest']}").stdout)
    connection = registry.connection()
    connection.request("HEAD", f"/v2/team/all/blobs/{one['layers'][0]['digest']}")
    assert connection.getresponse().status == 200
    connection.close()


def test_drafts_are_removed_and_missing_ones_told(registry: Registry, run: Run) -> None:
    index = f"{registry.address}/team/gone:1"
    run("create", index, f"{registry.address}/team/amd64:1")
    run("rm", index)
    assert "no such manifest" in run("inspect", index, code=1).stderr.lower()
    assert "No such manifest: " in run("push", index, code=1).stderr
    assert run("create", index, f"{registry.address}/team/missing:1", code=1).stderr
    assert run("annotate", index, f"{registry.address}/team/amd64:1", "--os", "plan9", code=1).stderr


def test_a_password_is_used_and_asked_for(run: Run, tmp_path: Path) -> None:
    with Registry(tmp_path / "registry", htpasswd=True) as registry:
        push_built(registry, "private", build([layer_tar({"f": b"x"})]), "1")
        assert run("inspect", f"{registry.address}/private:1", code=1).stderr
        import base64

        auth = base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
        (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.address: {"auth": auth}}}))
        assert json.loads(run("inspect", f"{registry.address}/private:1").stdout)["schemaVersion"] == 2


def test_importing_the_commands_needs_no_network_code() -> None:
    script = "import sys; import rorqual.cli.commands.manifest.rm; sys.exit('aiohttp' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)

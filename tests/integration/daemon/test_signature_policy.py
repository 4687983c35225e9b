"""rorquald with `image-signatures` in daemon.json: what is not signed gets no name; and `proxies` beside it."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.engine import Engine, command
from support.image import build, layer_tar
from support.registry import Registry, push_built
from support.signing import signer, simple

pytestmark = pytest.mark.root


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry(tmp_path / "r") as found:
        yield found


def configured(tmp_path: Path, **keys: object) -> str:
    path = tmp_path / "daemon.json"
    path.write_text(json.dumps(keys))
    return f"--config-file={path}"


def test_only_signed_images_get_a_name(registry: Registry, tmp_path: Path) -> None:
    own = signer()
    key = own.write(tmp_path / "team.pub")
    signed, unsigned = build([layer_tar({"a": b"1"})]), build([layer_tar({"b": b"2"})])
    for name in ("team/app", "free/app"):
        push_built(registry, name, signed, "signed")
        push_built(registry, name, unsigned, "unsigned")
        push_built(registry, name, simple(own, signed.digest), signed.digest.replace(":", "-") + ".sig")
    rule = {"repository": f"{registry.address}/team/*", "keys": [key]}
    with Engine(configured(tmp_path, **{"image-signatures": [rule]}), own_network=False) as engine:
        team = f"{registry.address}/team/app"
        engine.docker("pull", f"{team}:signed")
        refused = engine.docker("pull", f"{team}:unsigned", code=1).err
        assert f"{team}:unsigned: it is not signed, which the policy for {registry.address}/team/* demands" in refused
        assert engine.docker("run", "--rm", f"{team}:unsigned", "true", code=125).err.count("it is not signed") == 1
        assert "not signed" in engine.docker("pull", "-a", team, code=1).err
        assert "not signed" in engine.docker("pull", f"{team}@{unsigned.digest}", code=1).err
        assert engine.docker.out("images", "-q", f"{team}:unsigned") == ""
        engine.docker("pull", f"{registry.address}/free/app:unsigned")


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"image-signatures": [{"repository": "*", "keys": ["/no/such.pub"]}]}, "key /no/such.pub: no such file"),
        ({"image-signatures": [{"repository": "busybox", "keys": []}]}, "must be whole"),
        ({"image-signatures": {"repository": "*"}}, "wrong type dict"),
        ({"image-signatures": ["*"]}, "must be a list of objects"),
        ({"proxies": {"ftp-proxy": "x"}}, "ftp-proxy"),
        ({"proxies": "x"}, "configuration key proxies: wrong type str"),
    ],
)
def test_what_cannot_be_meant_stops_the_daemon(keys: dict[str, object], text: str, tmp_path: Path) -> None:
    argv = [command("rorquald"), "--validate", configured(tmp_path, **keys)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and text in done.stderr


def test_the_daemons_proxies_are_those_of_its_file(registry: Registry, tmp_path: Path) -> None:
    proxies = {"http-proxy": "http://me:secret@127.0.0.1:9", "https-proxy": "http://127.0.0.1:9", "no-proxy": "a.test"}
    with Engine(configured(tmp_path, proxies=proxies), own_network=False, image=False) as engine:
        shown = engine.docker.out("info", "-f", "{{.HTTPProxy}} {{.HTTPSProxy}} {{.NoProxy}}")
        assert shown == "http://xxxxx:xxxxx@127.0.0.1:9 http://127.0.0.1:9 a.test"
        # Loopback is never proxied; everything else is, and there is nobody.
        push_built(registry, "app", build([layer_tar({"a": b"1"})]), "1")
        engine.docker("pull", f"{registry.address}/app:1")
        refused = engine.docker("pull", "b.test/app", code=1).err
        assert "proxyconnect tcp: dial tcp 127.0.0.1:9: connect: connection refused" in refused
        assert "dial tcp: lookup a.test" in engine.docker("pull", "a.test/app", code=1).err
    argv = [command("rorquald"), "--validate", "--http-proxy=http://me:secret@b", configured(tmp_path, proxies=proxies)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert "http-proxy: (from flag: http://xxxxx:xxxxx@b, from file: http://xxxxx:xxxxx@127.0.0.1:9)" in done.stderr

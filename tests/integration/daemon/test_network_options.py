"""The daemon's options for networks, by what they change."""

import json
import subprocess

import pytest
from support.engine import Engine, command
from support.processes import wait_for

pytestmark = pytest.mark.root

SERVER = "echo hello > /tmp/index.html; exec httpd -f -p 80 -h /tmp"


def fetched(engine: Engine, address: str, port: int) -> str:
    assert engine.network is not None
    script = f"import urllib.request as r; print(r.urlopen('http://{address}:{port}/', timeout=3).read().decode())"
    return engine.network.run("python3", "-c", script, check=False).strip()


def test_bridge_none_means_no_default_network() -> None:
    with Engine("--bridge=none", "--bip=") as engine:
        for cli in (engine.docker, engine.rorqual):
            assert cli.out("network", "ls", "--format", "{{.Name}}").split() == ["host", "none"]
            for flags in ((), ("--network", "bridge"), ("--network", "default")):
                assert "eth0" not in cli.out("run", "--rm", *flags, "busybox", "ip", "addr")
            cli("run", "-d", "--name", "lone", "busybox", "sleep", "60")
            networks = json.loads(cli.out("inspect", "lone", "--format", "{{json .NetworkSettings.Networks}}"))
            assert list(networks) == ["none"]
            cli("network", "create", "red")
            cli("run", "-d", "--name", "web", "--network", "red", "-p", "18080:80", "busybox", "sh", "-c", SERVER)
            wait_for(lambda: fetched(engine, "127.0.0.1", 18080) == "hello", "the server answers")
            no = cli(
                "run", "--rm", "--network", "red", "--add-host", "gw:host-gateway", "busybox", "true", code=125
            ).err
            assert "unable to derive the IP value for host-gateway" in no
            cli("rm", "-f", "web", "lone")
            cli("network", "rm", "red")


def test_published_ports_obey_the_input_policy_of_the_host() -> None:
    with Engine("--input-policy=obey") as engine:
        assert engine.network is not None
        engine.network.run("nft", "add table inet host")
        chain = "{ type filter hook input priority 0; policy accept; }"
        engine.network.run("nft", f"add chain inet host input {chain}")
        engine.network.run("nft", "add rule inet host input tcp dport 18081 drop")
        ports = ("-p", "18080:80", "-p", "18081:80")
        engine.docker("run", "-d", "--name", "web", *ports, "busybox", "sh", "-c", SERVER)
        wait_for(lambda: fetched(engine, "127.0.0.1", 18080) == "hello", "the server answers")
        assert fetched(engine, "[::1]", 18080) == "hello" and fetched(engine, "127.0.0.1", 18081) == ""
        engine.kill("rorquald")
        assert fetched(engine, "127.0.0.1", 18080) == "hello" and fetched(engine, "127.0.0.1", 18081) == ""
        engine.start()
        assert fetched(engine, "127.0.0.1", 18080) == "hello" and fetched(engine, "127.0.0.1", 18081) == ""


@pytest.mark.parametrize(
    "keys,text",
    [
        ({"input-policy": "sometimes"}, "invalid input-policy 'sometimes': bypass or obey"),
        ({"input-policy": "obey", "userland-proxy": False}, "input-policy obey needs userland-proxy"),
    ],
)
def test_what_cannot_be_is_said_before_anything_starts(tmp_path, keys, text) -> None:
    file = tmp_path / "daemon.json"
    file.write_text(json.dumps(keys))
    argv = [command("rorquald"), "--validate", f"--config-file={file}"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and text in done.stderr

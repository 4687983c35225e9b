"""Every flag of `run` that the spine offers, seen from inside the container, with both command lines."""

import json
import re
import socket
from pathlib import Path

import pytest
from support.engine import Cli, Engine
from support.processes import wait_for

pytestmark = pytest.mark.root

HOST_PYTHON = [
    flag for path in ("/usr", "/lib", "/lib64") if Path(path).exists() for flag in ("-v", f"{path}:{path}:ro")
]


def capabilities(status: str) -> int:
    return int(re.search(r"CapEff:\s*([0-9a-f]+)", status)[1], 16)  # type: ignore[index]


def test_run_shows_the_programs_output_and_rm_removes_the_container(cli: Cli, engine: Engine) -> None:
    assert cli.out("run", "--rm", "busybox", "echo", "hello") == "hello"
    assert engine.api("GET", "/containers/json?all=1").json == []


def test_detach_prints_the_id_and_name_names(cli: Cli, engine: Engine) -> None:
    container = cli.out("run", "-d", "--name", "web", "busybox", "sleep", "60")
    assert re.fullmatch(r"[0-9a-f]{64}", container)
    assert engine.inspect("web")["Id"] == container
    assert engine.running("web")


def test_env_sets_passes_on_and_keeps_the_default_path(cli: Cli) -> None:
    cli.env["FROM_CLIENT"] = "passed on"
    lines = cli.out("run", "--rm", "-e", "A=b c", "-e", "FROM_CLIENT", "-e", "NOT_THERE", "busybox", "env").splitlines()
    assert "A=b c" in lines
    assert "FROM_CLIENT=passed on" in lines
    assert "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" in lines
    assert "HOME=/root" in lines
    assert any(re.fullmatch(r"HOSTNAME=[0-9a-f]{12}", line) for line in lines)
    assert not any(line.startswith("NOT_THERE") for line in lines)


def test_env_file_is_read_without_comments_and_empty_lines(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# a comment\n\nX=1\nY=two words\n")
    lines = cli.out("run", "--rm", "--env-file", str(file), "busybox", "env").splitlines()
    assert {"X=1", "Y=two words"} <= set(lines)
    assert not any("comment" in line for line in lines)


def test_workdir_is_made_and_entered(cli: Cli) -> None:
    assert cli.out("run", "--rm", "-w", "/made/on/the/way", "busybox", "pwd") == "/made/on/the/way"


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("alice", "uid=1000(alice) gid=1000(alice) groups=1000(alice),29(audio)"),
        ("1000:29", "uid=1000(alice) gid=29(audio)"),
        ("4242", "uid=4242 gid=0(root)"),
        ("alice:daemon", "uid=1000(alice) gid=1(daemon)"),
    ],
)
def test_user_by_name_number_and_group(cli: Cli, user: str, expected: str) -> None:
    names, _, groups = cli.out("run", "--rm", "-u", user, "busybox", "id").partition(" groups=")
    expected_names, _, expected_groups = expected.partition(" groups=")
    assert names == expected_names
    assert set(expected_groups.split(",")) <= {*groups.split(","), ""}


def test_volume_binds_a_directory_readable_and_writable(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("from the host")
    out = cli.out("run", "--rm", "-v", f"{tmp_path}:/data", "busybox", "sh", "-c", "cat /data/in; echo back >/data/out")
    assert out == "from the host"
    assert (tmp_path / "out").read_text() == "back\n"


def test_volume_ro_cannot_be_written(cli: Cli, tmp_path: Path) -> None:
    result = cli("run", "--rm", "-v", f"{tmp_path}:/data:ro", "busybox", "touch", "/data/x", code=1)
    assert "Read-only file system" in result.err
    assert not list(tmp_path.iterdir())


def test_tmpfs_is_mounted_with_its_options(cli: Cli) -> None:
    lines = cli.out(
        "run", "--rm", "--tmpfs", "/scratch:size=1m,mode=1770", "busybox", "cat", "/proc/mounts"
    ).splitlines()
    (line,) = (line for line in lines if " /scratch " in line)
    assert line.startswith("tmpfs")
    assert {"size=1024k", "mode=1770", "nosuid", "nodev", "noexec"} <= set(line.split()[3].split(","))


def test_publish_makes_a_tcp_port_reachable(cli: Cli, engine: Engine) -> None:
    serve = "mkdir /www; echo page >/www/index.html; exec httpd -f -h /www"
    cli("run", "-d", "--name", "web", "-p", "18080:80", "busybox", "sh", "-c", serve)

    def page() -> bytes:
        try:
            with engine.inside(), socket.create_connection(("127.0.0.1", 18080), 2) as client:
                client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return b"".join(iter(lambda: client.recv(4096), b""))
        except OSError:
            return b""

    wait_for(lambda: b"page" in page(), "the published page")
    assert cli.out("port", "web", "80/tcp").splitlines()[0] == "0.0.0.0:18080"


def test_publish_makes_a_udp_port_reachable(cli: Cli, engine: Engine) -> None:
    """This busybox has no server for datagrams, so the host's Python is lent to the container."""
    serve = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "s.bind(('', 53)); print('up', flush=True)\n"
        "while True: s.sendto(*s.recvfrom(100))"
    )
    cli("run", "-d", "--name", "udp", "-p", "18053:53/udp", *HOST_PYTHON, "busybox", "/usr/bin/python3", "-Ic", serve)
    wait_for(lambda: "up" in cli.out("logs", "udp"), "the server is up")
    with engine.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(20)
        client.connect(("127.0.0.1", 18053))
        client.send(b"datagram")
        assert client.recv(100) == b"datagram"


def test_publish_without_a_host_port_takes_a_free_one(cli: Cli, engine: Engine) -> None:
    cli("run", "-d", "--name", "box-p", "-p", "80", "busybox", "sleep", "60")
    (binding,) = [b for b in engine.inspect("box-p")["NetworkSettings"]["Ports"]["80/tcp"] if ":" not in b["HostIp"]]
    assert int(binding["HostPort"]) >= 32768


def test_memory_limits(cli: Cli) -> None:
    out = cli.out("run", "--rm", "-m", "32m", "busybox", "sh", "-c",
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max")  # fmt: skip
    assert int(out) == 32 << 20


def test_memory_limit_ends_a_program_that_takes_more(cli: Cli, engine: Engine) -> None:
    cli("run", "--name", "hungry", "-m", "16m", "--memory-swap", "16m", "busybox", "sh", "-c",
        "dd if=/dev/zero of=/dev/null bs=64M count=1", code=137)  # fmt: skip
    assert engine.inspect("hungry")["State"]["OOMKilled"] is True


def test_cpus_limits(cli: Cli) -> None:
    out = cli.out("run", "--rm", "--cpus", "0.5", "busybox", "sh", "-c",
        "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us 2>/dev/null"
        " || cat /sys/fs/cgroup/cpu.max")  # fmt: skip
    quota, period = map(int, out.split())
    assert quota / period == 0.5


def test_pids_limit_stops_a_fork_bomb(cli: Cli) -> None:
    result = cli("run", "--rm", "--pids-limit", "5", "busybox", "sh", "-c",
        "for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait", code=None)  # fmt: skip
    assert "can't fork" in result.err


def test_read_only_root_keeps_tmpfs_writable(cli: Cli) -> None:
    result = cli(
        "run", "--rm", "--read-only", "--tmpfs", "/t", "busybox", "sh", "-c", "touch /t/ok && touch /no", code=1
    )
    assert "Read-only file system" in result.err


def test_default_capabilities_are_dockers(cli: Cli) -> None:
    assert capabilities(cli.out("run", "--rm", "busybox", "cat", "/proc/self/status")) == 0xA80425FB


def test_cap_add_and_drop(cli: Cli) -> None:
    status = cli.out(
        "run",
        "--rm",
        "--cap-drop",
        "ALL",
        "--cap-add",
        "NET_ADMIN",
        "--cap-add",
        "CAP_CHOWN",
        "busybox",
        "cat",
        "/proc/self/status",
    )
    assert capabilities(status) == (1 << 12) | (1 << 0)


def test_privileged_gets_all_capabilities_and_devices(cli: Cli) -> None:
    host = capabilities(Path("/proc/self/status").read_text())
    out = cli.out(
        "run",
        "--rm",
        "--privileged",
        "busybox",
        "sh",
        "-c",
        "cat /proc/self/status; ls /dev; mount -t tmpfs t /mnt || mount -t tmpfs t /tmp",
    )
    assert capabilities(out) == host
    assert "Seccomp:\t0" in out


def test_unprivileged_cannot_mount_and_is_filtered(cli: Cli) -> None:
    result = cli(
        "run", "--rm", "busybox", "sh", "-c", "grep Seccomp: /proc/self/status; mount -t tmpfs t /tmp", code=None
    )
    assert result.code != 0
    assert "Seccomp:\t2" in result.out


def test_network_none_has_only_loopback(cli: Cli) -> None:
    assert cli.out("run", "--rm", "--network", "none", "busybox", "ls", "/sys/class/net") == "lo"


def test_network_host_is_the_hosts(cli: Cli, engine: Engine) -> None:
    links = cli.out("run", "--rm", "--network", "host", "busybox", "sh", "-c", "ip -o link | cut -d: -f2 | cut -d@ -f1")
    assert engine.bridge in links.split()


def test_network_bridge_gives_address_route_and_peers(cli: Cli, engine: Engine) -> None:
    cli("run", "-d", "--name", "peer", "busybox", "sleep", "60")
    address = engine.inspect("peer")["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    out = cli.out("run", "--rm", "--network", "bridge", "busybox", "sh", "-c",
        f"ip -4 -o addr show eth0; ip route; ping -c 1 -W 10 {address}")  # fmt: skip
    assert re.search(r"inet 172\.31\.77\.\d+/24", out)
    assert "default via 172.31.77.1 dev eth0" in out
    assert "1 packets received" in out


def test_hostname_is_set_and_resolves(cli: Cli) -> None:
    out = cli.out(
        "run", "--rm", "--hostname", "harpoon", "busybox", "sh", "-c", "hostname; cat /etc/hostname /etc/hosts"
    )
    assert out.splitlines()[:2] == ["harpoon", "harpoon"]
    assert re.search(r"^172\.31\.77\.\d+\s+harpoon$", out, re.M)


def test_add_host_lands_in_hosts(cli: Cli) -> None:
    out = cli.out(
        "run", "--rm", "--add-host", "db:192.0.2.7", "--add-host", "gw:host-gateway", "busybox", "cat", "/etc/hosts"
    )
    assert re.search(r"^192\.0\.2\.7\s+db$", out, re.M)
    assert re.search(r"^172\.31\.77\.1\s+gw$", out, re.M)


def test_dns_lands_in_resolv_conf(cli: Cli) -> None:
    out = cli.out(
        "run",
        "--rm",
        "--dns",
        "192.0.2.53",
        "--dns-search",
        "example.com",
        "--dns-option",
        "ndots:2",
        "busybox",
        "cat",
        "/etc/resolv.conf",
    )
    assert "nameserver 192.0.2.53" in out
    assert "search example.com" in out
    assert "options ndots:2" in out


def test_entrypoint_replaces_the_command_of_the_image(cli: Cli) -> None:
    assert cli.out("run", "--rm", "--entrypoint", "/bin/echo", "busybox", "one", "two") == "one two"


def test_label_is_kept_and_filters(cli: Cli, engine: Engine) -> None:
    container = cli.out("run", "-d", "--label", "tier=front", "-l", "flag", "busybox", "sleep", "60")
    cli("run", "-d", "--label", "tier=back", "busybox", "sleep", "60")
    assert engine.inspect(container)["Config"]["Labels"] == {"tier": "front", "flag": ""}
    assert cli.out("ps", "-q", "--no-trunc", "--filter", "label=tier=front") == container


def test_ulimit_is_set(cli: Cli) -> None:
    assert cli.out(
        "run", "--rm", "--ulimit", "nofile=512:768", "busybox", "sh", "-c", "ulimit -Sn; ulimit -Hn"
    ).split() == ["512", "768"]


def test_stop_signal_is_what_stop_sends(cli: Cli, engine: Engine) -> None:
    cli("run", "-d", "--name", "box-s", "--stop-signal", "SIGUSR1", "busybox", "sh", "-c",
        "trap 'exit 42' USR1; echo ready; while :; do sleep 0.1; done")  # fmt: skip
    wait_for(lambda: "ready" in cli.out("logs", "box-s"), "the trap is set")
    cli("stop", "box-s")
    assert engine.inspect("box-s")["State"]["ExitCode"] == 42


def test_init_reaps_and_passes_signals_on(cli: Cli, engine: Engine) -> None:
    cli("run", "-d", "--name", "box-i", "--init", "busybox", "sleep", "60")
    assert "init" in cli.out("exec", "box-i", "cat", "/proc/1/cmdline").split("\0")[0]
    cli("stop", "-t", "5", "box-i")
    # A bare sleep as PID 1 ignores SIGTERM and would end by SIGKILL: 137.
    assert engine.inspect("box-i")["State"]["ExitCode"] == 143


def test_defaults_inside_are_dockers(cli: Cli) -> None:
    """Mounts, devices and what /proc masks: a program written for Docker finds what it expects."""
    out = cli.out("run", "--rm", "busybox", "sh", "-c",
        "ls -A /dev; cat /proc/mounts; wc -c </proc/kcore; echo x >/proc/sys/kernel/hostname || echo refused"
    )  # fmt: skip
    for device in (
        "console",
        "fd",
        "full",
        "mqueue",
        "null",
        "ptmx",
        "pts",
        "random",
        "shm",
        "stderr",
        "tty",
        "urandom",
        "zero",
    ):
        assert device in out.split() or device == "console"
    for mount in ("/proc proc", "/dev tmpfs", "/dev/pts devpts", "/sys sysfs", "/dev/shm tmpfs", "/dev/mqueue mqueue"):
        assert re.search(rf"^\S+ {mount} ", out, re.M), mount
    assert re.search(r"^sysfs /sys sysfs ro,", out, re.M)
    assert "refused" in out


def test_inspect_shows_what_was_asked_for(cli: Cli) -> None:
    cli("run", "-d", "--name", "all", "-m", "64m", "--cpus", "1.5", "-e", "K=V", "-w", "/w", "busybox", "sleep", "60")
    (shown,) = json.loads(cli.out("inspect", "all"))
    assert shown["HostConfig"]["Memory"] == 64 << 20
    assert shown["HostConfig"]["NanoCpus"] == 1_500_000_000
    assert "K=V" in shown["Config"]["Env"]
    assert shown["Config"]["WorkingDir"] == "/w"
    assert shown["State"]["Status"] == "running"

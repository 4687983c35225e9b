"""What went wrong elsewhere, tried against the whole engine. Each test is named after its case.

The cases of one part alone (the runtime's mounts, the unpacker's paths, the firewall) are in that part's tests.
"""

import hashlib
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from support.engine import Engine
from support.processes import wait_for

pytestmark = pytest.mark.root


def sh(engine: Engine, script: str, *flags: str, code: int | None = 0) -> str:
    return engine.rorqual("run", "--rm", *flags, "busybox", "sh", "-c", script, code=code, timeout_s=60).out


def test_cve_2019_5736_the_hosts_interpreter_cannot_be_written_through_proc(engine: Engine) -> None:
    """A privileged container watches its /proc for what an exec's helper runs: it sees the helper, and a file that is
    not the host's interpreter. (That one would not open for writing either, but only while anybody runs it.)"""
    interpreter = Path(os.path.realpath(sys.executable))
    host = interpreter.stat()
    before = hashlib.sha256(interpreter.read_bytes()).hexdigest()
    look = "case $(readlink $p/exe) in /bin/busybox|'') ;; *) stat -L -c %d:%i $p/exe; (echo owned >$p/exe);; esac"
    watch = f"while :; do for p in /proc/[0-9]*; do {look}; done; done >>/tmp/seen 2>/dev/null"
    container = engine.rorqual.out("run", "-d", "--privileged", "busybox", "sh", "-c", watch)

    def helper_was_seen() -> bool:
        engine.rorqual("exec", container, "true")
        return engine.rorqual("exec", container, "test", "-s", "/tmp/seen", code=None).code == 0

    wait_for(helper_was_seen, "an exec's helper was seen", 60)
    seen = engine.rorqual.out("exec", container, "cat", "/tmp/seen")
    assert f"{host.st_dev}:{host.st_ino}" not in seen.split()
    # The entry point is the runtime's own binary, by the link that was the attack.
    engine.rorqual("run", "--rm", "--entrypoint", "/proc/self/exe", "busybox", "-c", "print(1)", code=None)
    engine.rorqual("exec", container, "/proc/self/exe", code=None)
    assert hashlib.sha256(interpreter.read_bytes()).hexdigest() == before


def test_cve_2024_21626_only_the_three_standard_descriptors_are_open(engine: Engine) -> None:
    listing = sh(engine, "ls -l /proc/self/fd")
    # `ls` itself holds one more: the directory that it lists.
    assert len(listing.splitlines()) - 1 <= 4, listing
    container = engine.rorqual.out("run", "-d", "busybox", "sleep", "60")
    assert engine.rorqual.out("exec", container, "sh", "-c", "ls /proc/1/fd").split() == ["0", "1", "2"]
    listing = engine.rorqual.out("exec", container, "sh", "-c", "ls /proc/$$/fd")
    assert set(listing.split()) <= {"0", "1", "2", "3", "10"}  # a shell's or ls's own


@pytest.mark.parametrize("number", [3, 5, 7, 8, 9, 12])
def test_cve_2024_21626_a_working_directory_through_a_descriptor_is_refused(engine: Engine, number: int) -> None:
    result = engine.rorqual(
        "run", "--rm", "-w", f"/proc/self/fd/{number}", "busybox", "cat", "../../../etc/hostname", code=None
    )
    assert result.code != 0
    assert Path("/etc/hostname").read_text().strip() not in result.out.split()
    container = engine.rorqual.out("run", "-d", "busybox", "sleep", "60")
    assert engine.rorqual("exec", "-w", f"/proc/self/fd/{number}", container, "pwd", code=None).code != 0


def test_cve_2025_31133_masked_paths_stay_masked_when_dev_null_is_a_link(engine: Engine, tmp_path: Path) -> None:
    """An image whose /dev/null is a link to what should be hidden."""
    masked = ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug"]
    script = "; ".join(f"[ ! -e {path} ] || wc -c <{path}" for path in masked)
    assert set(sh(engine, script).split()) <= {"0"}
    assert sh(engine, "ls /proc/acpi /proc/scsi 2>/dev/null | grep -v : ; true").strip() == ""


def test_cve_2025_52881_sysctls_and_labels_reach_the_real_proc_only(engine: Engine) -> None:
    assert (
        sh(
            engine,
            "cat /proc/sys/net/ipv4/ip_unprivileged_port_start",
            "--sysctl",
            "net.ipv4.ip_unprivileged_port_start=77",
        ).strip()
        == "77"
    )
    # What is there already, and nothing at all: a test that found the way open must not have harmed the host.
    harmless = 'cd /proc/sys/kernel; c=$(cat core_pattern); echo "$c" >core_pattern && echo wrote'
    harmless += "; [ ! -e /proc/sysrq-trigger ] || (: >>/proc/sysrq-trigger && echo opened)"
    assert sh(engine, f"({harmless}) 2>/dev/null; true") == ""
    assert "wrote" in sh(engine, f"({harmless}) 2>/dev/null; true", "--privileged")


def test_cve_2020_15257_no_abstract_socket_of_the_engine_is_reachable(engine: Engine) -> None:
    engine.rorqual("run", "-d", "busybox", "sleep", "60")
    sockets = sh(engine, "cat /proc/net/unix", "--network", "host")
    abstract = [line.split()[-1] for line in sockets.splitlines() if line.split()[-1].startswith("@")]
    assert not [name for name in abstract if "rorqual" in name or "containerd" in name or engine.id in name], abstract


def test_cve_2024_25621_state_directories_are_closed_to_others(engine: Engine) -> None:
    container = engine.rorqual.out("run", "-d", "busybox", "sleep", "60")
    for path in (engine.data, engine.exec, engine.data / "containers" / container, engine.exec / "containerd"):
        mode = stat.S_IMODE(path.stat().st_mode)
        # Closed itself, or under a directory that is.
        closed = [
            p for p in (path, *path.parents) if not stat.S_IMODE(p.stat().st_mode) & 0o077 and engine.root in p.parents
        ]
        assert closed, f"{path}: {mode:o}"
    assert stat.S_IMODE(engine.socket.stat().st_mode) == 0o660


@pytest.mark.parametrize("user", ["2147483648", "4294967295", "4294967296", "0:2147483648"])
def test_cve_2024_40635_ids_beyond_31_bits_are_refused(engine: Engine, user: str) -> None:
    result = engine.rorqual("run", "--rm", "-u", user, "busybox", "id", "-u", code=None)
    assert result.code != 0 and "uids and gids must be in range 0-2147483647" in result.err, result
    assert engine.rorqual.out("run", "--rm", "-u", "2147483647:2147483647", "busybox", "id", "-u") == "2147483647"


def test_cve_2026_31431_af_alg_and_other_rare_sockets_are_denied(engine: Engine) -> None:
    """busybox has no way to open them, so the host's Python is lent to the container for the test."""
    script = (
        "import socket\n"
        "for family, kind in ((38, 5), (40, 1)):\n"
        "    try: socket.socket(family, kind); print('open')\n"
        "    except OSError as e: print(e.errno)\n"
    )
    flags = [
        flag for path in ("/usr", "/lib", "/lib64") if os.path.exists(path) for flag in ("-v", f"{path}:{path}:ro")
    ]
    out = engine.rorqual("run", "--rm", *flags, "busybox", "/usr/bin/python3", "-I", "-c", script).out
    assert "open" not in out


@pytest.mark.parametrize(
    "script",
    [
        "unshare -U true",
        "unshare -m true",
        "mount -t tmpfs none /tmp",
        "hostname other",
        "renice -n -5 -p $$",
        "ip link set lo down",
        "mknod /tmp/disk b 7 0 && exec 3</tmp/disk",
        "cd /sys/fs/cgroup && cd $(ls -d pids . 2>/dev/null | tail -1) && mkdir made && rmdir made",
        "dmesg",
        "cd /proc/sys/kernel && echo $(cat panic) >panic",
        "cat /proc/keys /proc/timer_list | grep -q .",
    ],
)  # fmt: skip
def test_the_default_container_cannot(engine: Engine, script: str) -> None:
    """And a privileged one can, or the attempt would prove nothing."""
    shell = ("--rm", "busybox", "sh", "-c", script)
    assert engine.rorqual("run", *shell, code=None).code != 0
    engine.rorqual("run", "--privileged", *shell)


def test_proc_and_sys_are_read_only_where_they_must_be(engine: Engine) -> None:
    files = "/proc/sys/kernel/panic /proc/irq/default_smp_affinity /sys/kernel/uevent_helper /proc/bus/x"
    # What is there already: a test that found the way open must not have harmed the host.
    same = 'c=$(cat $f 2>/dev/null); (echo "$c" >$f) 2>/dev/null && echo wrote $f'
    out = sh(engine, f"for f in {files}; do {same}; done; true")
    assert "wrote" not in out


def test_no_new_privileges_keeps_setuid_programs_down(engine: Engine) -> None:
    assert "NoNewPrivs:\t1" in sh(engine, "cat /proc/self/status", "--security-opt", "no-new-privileges")


def test_a_custom_seccomp_profile_is_obeyed(engine: Engine, tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    profile.write_text(
        '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}'
    )
    assert (
        engine.rorqual("run", "--rm", "--security-opt", f"seccomp={profile}", "busybox", "mkdir", "/x", code=None).code
        != 0
    )
    assert "Seccomp:\t0" in sh(engine, "cat /proc/self/status", "--security-opt", "seccomp=unconfined")


def test_cve_2025_54388_a_port_published_on_loopback_is_not_reachable_from_elsewhere(fresh_engine: Engine) -> None:
    from support.netns import NetworkNamespace

    engine, neighbour = fresh_engine, NetworkNamespace("rqn")
    try:
        assert engine.network is not None
        engine.network.join(neighbour, "192.0.2.1/24", "192.0.2.2/24")
        serve = ("busybox", "sh", "-c", "mkdir /w; echo page >/w/index.html; httpd -f -h /w")
        closed = engine.rorqual.out("run", "-d", "-p", "127.0.0.1:18095:80", *serve)
        engine.rorqual("run", "-d", "-p", "18096:80", *serve)
        hidden = engine.inspect(closed)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]

        def answers(address: str, port: int) -> bool:
            try:
                with socket.create_connection((address, port), 1) as client:
                    client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    return client.recv(4096).startswith(b"HTTP/1.1 200")
            except OSError:
                return False

        def reachable(address: str, port: int) -> bool:
            with neighbour.entered():
                return answers(address, port)

        def answers_here(address: str, port: int) -> bool:
            with engine.inside():
                return answers(address, port)

        wait_for(lambda: answers_here("127.0.0.1", 18095), "the port on the loopback, from this host")
        wait_for(lambda: reachable("192.0.2.1", 18096), "a port published on every address")
        assert not reachable("192.0.2.1", 18095)
        neighbour.run("ip", "route", "replace", "127.0.0.0/8", "via", "192.0.2.1", "dev", "up0", check=False)
        assert not reachable("127.0.0.1", 18095)
        neighbour.run("ip", "route", "replace", f"{hidden}/32", "via", "192.0.2.1", "dev", "up0")
        assert not reachable(hidden, 80)
    finally:
        neighbour.close()


def test_cve_2022_23648_an_images_volume_cannot_read_the_host(engine: Engine, tmp_path: Path) -> None:
    """A volume is filled with what the image has there: neither dots nor a link lead that to the host's files."""
    (tmp_path / "secret").write_text("secret")
    engine.rorqual("run", "--name", "maker", "busybox", "ln", "-s", str(tmp_path), "/data")
    engine.rorqual("commit", "maker", "linked:latest")
    for number, volume in enumerate(("/" + "../" * 20 + str(tmp_path), "/data", f"/data/../..{tmp_path}")):
        body = {"Image": "linked", "Cmd": ["sh", "-c", f"ls -R {volume}"], "Volumes": {volume: {}}}
        made = engine.api("POST", f"/containers/create?name=box-{number}", body)
        assert made.status == 201, made.body
        assert "secret" not in engine.rorqual("start", "-a", f"box-{number}", code=None).out
    # Not rglob, which an earlier test's volume that is being removed would make fail.
    assert [top for top, _, files in os.walk(engine.data / "volumes") if "secret" in files] == []


def test_the_daemon_socket_is_not_inside_containers(engine: Engine) -> None:
    out = sh(engine, "find / -name '*.sock' -not -path '/proc/*' 2>/dev/null; true")
    assert out.strip() == ""


def test_environment_of_the_engine_does_not_leak_into_containers(engine: Engine) -> None:
    assert "RORQUAL_TEST_ENGINE" not in sh(engine, "cat /proc/1/environ | tr '\\0' '\\n'; env")


def test_processes_of_a_container_are_not_dumpable_before_exec(engine: Engine) -> None:
    """The window in which CVE-2016-9962 and its kin attached: an exec's helper seen from within the container."""
    beyond_stdio = "for f in $p/fd/[3-9] $p/fd/[1-9][0-9]*; do readlink $f >>/tmp/seen; done"
    look = f"case $(cat $p/comm) in rorqual*) echo $p >>/tmp/helpers; {beyond_stdio};; esac"
    watch = f"exec 2>/dev/null; while :; do for p in /proc/[0-9]*; do {look}; done; done"
    container = engine.rorqual.out("run", "-d", "busybox", "sh", "-c", watch)

    def helper_was_seen() -> bool:
        engine.rorqual("exec", container, "true")
        return engine.rorqual("exec", container, "test", "-s", "/tmp/helpers", code=None).code == 0

    for _ in range(10):
        wait_for(helper_was_seen, "an exec's helper was seen", 30)
    assert engine.rorqual.out("exec", container, "sh", "-c", "cat /tmp/seen; true") == ""


def test_masquerading_as_root_on_the_stream_socket_is_refused(engine: Engine) -> None:
    """The shims' sockets answer only root, even where directory and socket would let others in."""
    container = engine.rorqual.out("run", "-d", "busybox", "sleep", "60")
    bundle = next((engine.exec / "containerd" / "tasks").glob(f"*/{container}"))
    bundle.chmod(0o711)
    (bundle / "stream.sock").chmod(0o666)
    directory = os.open(bundle, os.O_PATH | os.O_DIRECTORY)  # those above it stay closed
    script = (
        "import os, socket, sys\n"
        "if sys.argv[1] != '0': os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))\n"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        f"s.connect('/proc/self/fd/{directory}/stream.sock')\n"
        'm = b\'{"op": "info", "exec_id": ""}\'; s.send(m); print(s.recv(1000))'
    )
    answers = []
    try:
        for user in ("0", "65534"):
            line = [sys.executable, "-c", script, user]
            done = subprocess.run(line, capture_output=True, text=True, check=False, pass_fds=(directory,))
            answers.append(done.stdout + done.stderr)
    finally:
        os.close(directory)
    assert '"ok": true' in answers[0].replace('":true', '": true'), answers[0]
    # Closed at once: before, or after, what it sent has arrived.
    assert answers[1] == "b''\n" or "ConnectionResetError" in answers[1] or "BrokenPipeError" in answers[1], answers[1]

"""The files of the virtual machine: a root file system with Python, this package and its tests, and an initial ramdisk.

Interpreter, standard library, the libraries they need and busybox are taken from the machine that builds it, kernel and
systemd from Debian's packages. Nothing is installed, and no mount is made: mke2fs fills the image by itself.
"""

import importlib.metadata
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

import packages

REPOSITORY = Path(__file__).resolve().parents[2]
ROOT_MODULES = (
    "virtio_pci",
    "virtio_blk",
    "crc32c_generic",
    "ext4",
)  # what the initial ramdisk needs to reach the root
# What the tests and the engine use; loaded by init.
GUEST_MODULES = (
    *(
        *("overlay", "loop", "xfs", "quota_v2", "dm_mod", "dm_thin_pool"),
        "bfq",
        "null_blk",
        "veth",
        "bridge",
        "br_netfilter",
        "nf_tables",
        "nft_chain_nat",
        "nft_ct",
        "nft_nat",
    ),
    *("unix_diag", "inet_diag", "tcp_diag", "udp_diag", "raw_diag", "netlink_diag", "af_packet_diag"),
    *("dummy", "crc32_generic", "rdma_rxe"),
    "nf_conntrack_netlink",  # this and the *_diag are what CRIU asks
    *("nft_masq", "nft_redir", "nft_fib_inet", "nft_reject_inet", "nft_limit", "nft_log", "nft_hash", "nft_numgen"),
)
_DISTRIBUTIONS = ("rorqual", "pytest", "pytest-timeout", "pytest-asyncio", "hypothesis")
_COMMANDS = {
    "rorqual": "rorqual.cli.main",
    "rorquald": "rorqual.daemon.main",
    "rorqual-containerd": "rorqual.containerd.main",
    "rorqual-runc": "rorqual.runc.main",
}
_PROGRAMS = ("busybox", "ps", "setpriv")
_LIBRARIES = ("libseccomp.so.2", "libnftables.so.1")  # opened by name at run time, so that ldd tells nothing of them
_IMAGE_MIB = 2048  # sparse


def run(*command: str, **options: str | Path) -> str:
    done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, **options)  # type: ignore[call-overload]
    return str(done.stdout)


def kernel(work: Path) -> tuple[Path, Path]:
    """Debian's kernel for this architecture, fetched once and unpacked: (vmlinuz, directory of its modules)."""
    unpacked = work / "kernel"
    if not list(unpacked.glob("boot/vmlinuz-*")):
        shutil.rmtree(unpacked, ignore_errors=True)
        work.mkdir(parents=True, exist_ok=True)
        try:
            depends = run("apt-cache", "depends", "--no-recommends", "--no-suggests", "linux-image-amd64")
            package = next(line.split()[-1] for line in depends.splitlines() if "Depends:" in line)
            run("apt-get", "download", package, cwd=work)
        except (OSError, subprocess.CalledProcessError, StopIteration):
            sys.exit("the kernel cannot be fetched: needs apt of an amd64 Debian, and `apt-get update` once")
        archive = next(work.glob("linux-image-*.deb"))
        run("dpkg-deb", "-x", str(archive), str(unpacked))
        archive.unlink()
    return next(unpacked.glob("boot/vmlinuz-*")), next(unpacked.glob("lib/modules/*"))


def module_files(modules: Path, names: Iterable[str]) -> list[Path]:
    """The files of the modules and of what each needs, in the order to load them; those built in have none."""
    by_name = {path.name.partition(".")[0].replace("-", "_"): path for path in modules.rglob("*.ko*")}
    ordered: list[Path] = []

    def add(name: str) -> None:
        path = by_name.get(name.replace("-", "_"))
        if path is None or path in ordered:
            return
        info = re.search(rb"\0depends=([^\0]*)\0", path.read_bytes())
        soft = re.findall(rb"\0softdep=pre: ([^\0]*)\0", path.read_bytes())
        for needed in (info.group(1).decode().split(",") if info else []) + [
            w.decode() for s in soft for w in s.split()
        ]:
            add(needed)
        ordered.append(path)

    for name in names:
        add(name)
    return ordered


def build_root(work: Path, modules: Path) -> Path:
    """An ext4 image of the guest's root file system."""
    root = work / "root"
    shutil.rmtree(root, ignore_errors=True)
    for name in ("proc", "sys", "dev", "tmp", "run", "root", "etc", "usr/bin", "modules", "var/tmp"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(exist_ok=True)
        (root / name).symlink_to(f"usr/{name}")
    packages.unpack(packages.download(work / "packages"), root)
    (root / "tmp").chmod(0o1777)
    _configure(root)
    for number, path in enumerate(module_files(modules, GUEST_MODULES)):
        shutil.copy(path, root / f"modules/{number:02d}-{path.name}")
    _copy_python(root)
    _copy_repository(root)
    programs = [
        Path(shutil.which(name) or sys.exit(f"{name} is missing: see scripts/system-packages vm")) for name in _PROGRAMS
    ]
    for program in programs:
        _place(program, root)
    for applet in run(shutil.which("busybox") or "busybox", "--list").split():
        if not (root / "usr/bin" / applet).exists():
            (root / "bin" / applet).symlink_to("/usr/bin/busybox")
    for name, module in _COMMANDS.items():
        (root / "bin" / name).write_text(f"#!/bin/python3\nfrom {module} import main\nraise SystemExit(main())\n")
        (root / "bin" / name).chmod(0o755)
    (root / "bin/docker").symlink_to("rorqual")  # for tests that hold with either command line
    for library in _needed_libraries(root, programs):
        _place(library, root)
    run("chmod", "-R", "a+rX", str(root))  # ordinary users run some of the tests
    image = work / "root.ext4"
    image.unlink(missing_ok=True)
    run("mke2fs", "-q", "-t", "ext4", "-d", str(root), "-E", "root_owner=0:0", str(image), f"{_IMAGE_MIB}M")
    shutil.rmtree(root)
    return image


_USERS = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\nmessagebus:x:101:101::/:/bin/false\n"
_TESTS_UNIT = """[Unit]
Description=the tests
DefaultDependencies=no
Wants=dbus.socket
After=dbus.socket sysinit.target
[Service]
Type=oneshot
Delegate=yes
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
TimeoutStartSec=infinity
ExecStart=/bin/python3 /rorqual/init.py
"""


def _configure(root: Path) -> None:
    """Users, and for systemd one unit: the tests. Nothing else of what it would start is wanted here."""
    (root / "etc/passwd").write_text(_USERS)
    (root / "etc/group").write_text("root:x:0:\nmessagebus:x:101:\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    (root / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    (root / "etc/initrd-release").unlink(missing_ok=True)
    units = root / "etc/systemd/system"
    units.mkdir(parents=True, exist_ok=True)
    (units / "tests.service").write_text(_TESTS_UNIT)
    (units / "tests.target").write_text("[Unit]\nDescription=the tests are run\nWants=tests.service\n")
    (units / "default.target").symlink_to("tests.target")


def _place(path: Path, root: Path) -> None:
    """A copy at the same path."""
    target = root / str(path).lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copy(path, target)


def _copy_python(root: Path) -> None:
    interpreter = Path(sys.executable).resolve()
    _place(interpreter, root)
    (root / "bin/python3").symlink_to(interpreter)
    library = Path(sysconfig.get_path("stdlib"))
    skipped = shutil.ignore_patterns("test", "tests", "idlelib", "ensurepip", "lib2to3", "dist-packages", "config-*")
    shutil.copytree(
        library, root / str(library).lstrip("/"), ignore=skipped, symlinks=False, ignore_dangling_symlinks=True
    )
    for name, source in _distribution_files(_DISTRIBUTIONS):
        if ".." in name.parts or not source.exists():
            continue  # programs of the environment; bytecode that was never made
        target = root / "site" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


def _distribution_files(names: Iterable[str]) -> Iterator[tuple[Path, Path]]:
    """Files of the distributions and of all that they require: (name below site-packages, where it is)."""
    waiting, seen = list(names), set()
    while waiting:
        name = waiting.pop().lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # of another platform or version
        for file in found.files or ():
            yield Path(file), Path(str(found.locate_file(file)))
        plain = [requirement for requirement in found.requires or () if "extra ==" not in requirement]
        waiting += [re.split(r"[\s;<>=!~\[(]", requirement, maxsplit=1)[0] for requirement in plain]


def _copy_repository(root: Path) -> None:
    """With the bytecode that is there, which its source's time and size vouch for: emulated, compiling takes long."""
    for name in ("src", "tests"):
        shutil.copytree(REPOSITORY / name, root / "rorqual" / name)
    shutil.copy(REPOSITORY / "pyproject.toml", root / "rorqual/pyproject.toml")
    shutil.copy(Path(__file__).with_name("init.py"), root / "rorqual/init.py")


def _needed_libraries(root: Path, programs: Iterable[Path]) -> Iterator[Path]:
    objects = [*programs, Path(sys.executable).resolve(), *root.rglob("*.so")]
    cache = run("/sbin/ldconfig", "-p")
    for name in _LIBRARIES:
        found = re.search(rf"{re.escape(name)} .*=> (\S+)", cache)
        if found:
            objects.append(Path(found.group(1)))
            yield Path(found.group(1))
    seen: set[str] = set()
    for path in objects:
        done = subprocess.run(["ldd", str(path)], capture_output=True, text=True, check=False)
        for library in re.findall(r"(/\S+\.so\S*)", done.stdout):
            if library not in seen:
                seen.add(library)
                yield Path(library)


_INITRD_INIT = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for m in /modules/*; do /bin/busybox insmod $m; done
n=0; while ! [ -b /dev/vda ] && [ $n -lt 1000 ]; do /bin/busybox usleep 10000; n=$((n+1)); done
/bin/busybox mount -t ext4 /dev/vda /root || exec /bin/busybox poweroff -f
/bin/busybox mount -t proc proc /proc
init="/bin/python3 /rorqual/init.py"
/bin/busybox grep -q rorqual.systemd /proc/cmdline && init=/lib/systemd/systemd
/bin/busybox umount /proc /dev
exec /bin/busybox switch_root /root $init
"""


def build_initrd(work: Path, modules: Path) -> Path:
    """busybox and the modules that reach the root, as a cpio archive."""
    busybox = Path(shutil.which("busybox") or sys.exit("busybox is missing: see scripts/system-packages vm"))
    archive = bytearray()
    for name in ("bin", "dev", "proc", "root", "modules"):
        archive += _entry(name, stat.S_IFDIR | 0o755, b"")
    archive += _entry("init", stat.S_IFREG | 0o755, _INITRD_INIT.encode())
    archive += _entry("bin/busybox", stat.S_IFREG | 0o755, busybox.read_bytes())
    for number, path in enumerate(module_files(modules, ROOT_MODULES)):
        archive += _entry(f"modules/{number:02d}-{path.name}", stat.S_IFREG | 0o644, path.read_bytes())
    archive += _entry("TRAILER!!!", 0, b"")
    image = work / "initrd.cpio"
    image.write_bytes(archive)
    return image


def _entry(name: str, mode: int, data: bytes) -> bytes:
    """One file of a "newc" archive. Source: Documentation/driver-api/early-userspace/buffer-format.rst."""
    encoded = name.encode() + b"\0"
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    header += b"\0" * (-len(header) % 4)
    return header + data + b"\0" * (-len(data) % 4)

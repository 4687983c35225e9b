"""Every kind of file that a layer may have, through pull -> run -> commit -> push -> pull: the bytes and IDs agree."""

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest
from support.engine import Engine
from support.image import busybox_layers
from support.registry import Registry, push_image

pytestmark = pytest.mark.root

LONG = "/".join(["a-directory-with-a-name-that-is-long"] * 8)  # 303 bytes: more than ustar's two fields
CAPABILITY = bytes.fromhex(
    "0100000200040000000000000000000000000000"
)  # cap_net_bind_service, effective; VFS_CAP_REVISION_2
STUBS = ("etc/hostname", "etc/hosts", "etc/resolv.conf", "dev", "proc", "sys", ".dockerenv")
# In the container: copies of it all into a layer of ours, and what whiteouts and opaque directories come from.
WORK = """
cp -a /odd /copy
rm /odd/plain; rm -r /odd/dir; mkdir /odd/dir; echo new > /odd/dir/new
ln /odd/first /odd/third # of a file of another layer
touch -d '1960-01-02 03:04:05' /odd/older; chmod 6755 /odd/older
"""


def entry(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.mtime = kind, 1_600_000_000
    for key, value in fields.items():
        setattr(found, key, value)
    return found


def layer(format: int, entries: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=format) as tar:
        for info, data in entries:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return made.getvalue()


def odd_layers() -> list[bytes]:
    """One in GNU's format, one in PAX' with what only that has and whiteouts of the other, and a sparse file."""
    directory = (entry("odd", tarfile.DIRTYPE, mode=0o755), b"")
    gnu = [
        directory,
        (entry("odd/plain", mode=0o640, uid=12, gid=34), b"plain"),
        (entry("odd/first", mode=0o4755), b"linked"),
        (entry("odd/second", tarfile.LNKTYPE, linkname="odd/first"), b""),
        (entry("odd/older", mtime=-5), b"before 1970"),
        *((entry("odd/" + "/".join(LONG.split("/")[:n]), tarfile.DIRTYPE, mode=0o755), b"") for n in range(1, 9)),
        (entry(f"odd/{LONG}/file"), b"long"),
        (entry("odd/long-link", tarfile.SYMTYPE, linkname="t/" * 120), b""),
        (entry("odd/fifo", tarfile.FIFOTYPE, mode=0o600), b""),
        (entry("odd/device", tarfile.CHRTYPE, mode=0o660, devmajor=1, devminor=3), b""),
        (entry("odd/block", tarfile.BLKTYPE, mode=0o660, devmajor=7, devminor=300), b""),
        (entry("odd/big-owner", uid=3_000_000, gid=4_000_000), b"x"),
        (entry("odd/opaque", tarfile.DIRTYPE, mode=0o755), b""),
        (entry("odd/opaque/hidden"), b"hidden"),
        (entry("odd/gone"), b"gone"),
        (entry("odd/dir", tarfile.DIRTYPE, mode=0o1777), b""),
        (entry("odd/dir/below"), b"below"),
    ]
    attributes = {"SCHILY.xattr.user.note": "v\u00e4lue", "SCHILY.xattr.trusted.note": "t"}
    capability = {"SCHILY.xattr.security.capability": CAPABILITY.decode("utf-8", "surrogateescape")}
    pax = [
        directory,
        (entry("odd/attributes", pax_headers=attributes), b"attributes"),
        (entry("odd/capability", mode=0o755, pax_headers=capability), b"capability"),
        (entry("odd/\u00fcn\u00efcode \U0001f433"), b"unicode"),
        (entry("odd/fraction", mtime=1234567890.25), b"fraction"),
        (entry("odd/ancient", mtime=-86400.5), b"ancient"),
        (entry("odd/across", tarfile.LNKTYPE, linkname="odd/big-owner"), b""),  # of a file of the layer below
        (entry("odd/.wh.gone"), b""),
        (entry("odd/opaque", tarfile.DIRTYPE, mode=0o700), b""),
        (entry("odd/opaque/.wh..wh..opq"), b""),
        (entry("odd/opaque/shown"), b"shown"),
        (entry("odd/empty", tarfile.DIRTYPE, mode=0o2770, gid=5), b""),
    ]
    return [layer(tarfile.GNU_FORMAT, gnu), layer(tarfile.PAX_FORMAT, pax), sparse_layer()]


def sparse_layer() -> bytes:
    """GNU's sparse format 1.0: two bytes at both ends of 64 MiB."""
    length = 64 << 20
    where = f"2\n0\n1\n{length - 1}\n1\n".encode().ljust(512, b"\0")
    records = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "odd/sparse"}
    info = entry("odd/GNUSparseFile.0/sparse", pax_headers={**records, "GNU.sparse.realsize": str(length)})
    return layer(tarfile.PAX_FORMAT, [(info, where + b"AZ")])


Listing = dict[str, tuple[object, ...]]


def exported(engine: Engine, container: str, path: Path) -> Listing:
    """What each name is; hard links by their first name, which is the archive's order."""
    engine.docker("export", "-o", str(path), container)
    found: Listing = {}
    with tarfile.open(path) as tar:
        for info in tar:
            name = info.name.strip("/")
            if name.startswith(STUBS) or name in ("", ".", "etc"):
                continue
            data = tar.extractfile(info) if info.isreg() else None
            digest = hashlib.sha256(data.read()).hexdigest() if data else ""
            attributes = sorted((k, v) for k, v in info.pax_headers.items() if "xattr" in k)
            numbers = (info.mode, info.uid, info.gid, int(info.mtime), info.devmajor, info.devminor)
            found[name] = (info.type, *numbers, info.linkname, digest, *attributes)
    return found


@pytest.mark.parametrize("driver", ["overlay2", "vfs"])
def test_everything_survives_pull_commit_push_pull(driver: str, tmp_path: Path) -> None:
    with (
        Engine(f"--storage-driver={driver}", image=False) as engine,
        engine.inside(),
        Registry(tmp_path / "registry") as registry,
    ):
        docker = engine.docker
        name = f"{registry.address}/odd"
        push_image(registry, "odd", [busybox_layers()[0], *odd_layers()])
        docker("pull", name)
        docker("run", "--name", "one", name, "sh", "-c", WORK)
        first = exported(engine, "one", tmp_path / "first.tar")
        check(first)
        docker("commit", "one", f"{name}:made")
        made = json.loads(docker.out("inspect", f"{name}:made"))[0]
        docker("push", f"{name}:made")
        docker("rm", "one")
        docker("rmi", f"{name}:made", name)
        docker("pull", f"{name}:made")
        again = json.loads(docker.out("inspect", f"{name}:made"))[0]
        assert (again["Id"], again["RootFS"]) == (made["Id"], made["RootFS"])
        docker("create", "--name", "two", f"{name}:made", "true")
        assert exported(engine, "two", tmp_path / "second.tar") == first
        docker("save", "-o", str(tmp_path / "saved.tar"), f"{name}:made")
        assert top_layer_digest(tmp_path / "saved.tar") == made["RootFS"]["Layers"][-1]
        engine.rorqual("system", "check")


def check(found: Listing) -> None:
    """The export has what the layers say."""
    kinds = {name.removeprefix("copy/"): row[0] for name, row in found.items() if name.startswith("copy/")}
    assert {kinds[name] for name in ("fifo", "device", "block")} == {b"6", b"3", b"4"}
    assert found["copy/device"][5:7] == (1, 3) and found["copy/block"][5:7] == (7, 300)
    assert found["odd/first"][1] == 0o4755 and found["copy/plain"][1:4] == (0o640, 12, 34)
    assert found["copy/older"][4] == -5 and found["copy/ancient"][4] == -86401
    assert found["copy/big-owner"][2:4] == (3_000_000, 4_000_000)
    assert found["odd/across"][1:4] == found["odd/big-owner"][1:4] and "copy/across" in found
    assert "odd/gone" not in found and "copy/gone" not in found
    assert "copy/opaque/hidden" not in found and "copy/opaque/shown" in found
    # an overlay copies up the one name of the image's file that it is asked for: the other stays as it was
    assert found["odd/third"][0] == tarfile.LNKTYPE and found["copy/second"][0] == tarfile.LNKTYPE
    assert f"odd/{LONG}/file" in found and f"copy/{LONG}/file" in found
    assert found["copy/long-link"][7] == "t/" * 120
    assert dict(found["odd/attributes"][9:])["SCHILY.xattr.user.note"] == "v\u00e4lue"  # type: ignore[arg-type]
    assert any("security.capability" in str(row) for row in found["odd/capability"][9:])
    assert found["odd/sparse"][8] == hashlib.sha256(b"A" + bytes((64 << 20) - 2) + b"Z").hexdigest()
    assert found["odd/empty"][1] == 0o2770 and "odd/dir/new" in found and "odd/dir/below" not in found
    assert "odd/plain" not in found and found["odd/older"][1] == 0o6755


def top_layer_digest(archive: Path) -> str:
    with tarfile.open(archive) as saved:
        manifest = json.load(saved.extractfile("manifest.json"))  # type: ignore[arg-type]
        data = saved.extractfile(manifest[0]["Layers"][-1])
        assert data is not None
        plain = data.read()
        return "sha256:" + hashlib.sha256(gzip.decompress(plain) if plain[:2] == b"\x1f\x8b" else plain).hexdigest()

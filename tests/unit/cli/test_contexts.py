"""`rorqual context`: the store that Docker's own command line reads and writes."""

import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import IO

import pytest

from rorqual.cli import contexts
from rorqual.cli.config import Config
from rorqual.cli.contexts import Store
from rorqual.cli.errors import CommandError
from rorqual.cli.main import execute

ENDPOINT = {"Host": "tcp://192.0.2.1:2376", "SkipTLSVerify": False}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DOCKER_HOST", "RORQUAL_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path


@pytest.fixture
def store(home: Path) -> Store:
    return Store(Config.load(str(home)))


def run(*args: str) -> int:
    return execute(["context", *args])


def test_a_context_is_stored_where_docker_looks_for_it(home: Path, store: Store) -> None:
    store.put(contexts.new("far", "over there", ENDPOINT, {"ca.pem": b"CA"}))
    (meta,) = (home / "contexts" / "meta").glob("*/meta.json")
    assert json.loads(meta.read_text()) == {
        "Name": "far",
        "Metadata": {"Description": "over there"},
        "Endpoints": {"docker": ENDPOINT},
    }
    ca = home / "contexts" / "tls" / meta.parent.name / "docker" / "ca.pem"
    assert ca.read_bytes() == b"CA"
    assert ca.stat().st_mode & 0o777 == 0o600


def test_what_is_exported_is_imported_under_another_name(store: Store) -> None:
    stored = contexts.new("far", "over there", ENDPOINT, {"ca.pem": b"CA", "key.pem": b"KEY"})
    again = contexts.unpack(contexts.pack(stored), "near")
    assert again.name == "near"
    assert (again.description, again.endpoint, again.tls) == ("over there", ENDPOINT, stored.tls)


def test_a_zip_is_imported_too() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("meta.json", json.dumps({"Name": "x", "Metadata": {}, "Endpoints": {"docker": ENDPOINT}}))
    assert contexts.unpack(out.getvalue(), "near").endpoint == ENDPOINT


@pytest.mark.parametrize("path", ["../evil", "tls/docker/../../evil", "tls/docker/evil.sh", "/etc/passwd", "tls/x"])
def test_an_imported_context_writes_nothing_elsewhere(path: str) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in (("meta.json", b'{"Name":"x","Endpoints":{}}'), (path, b"evil")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    with pytest.raises(CommandError, match="unexpected context file"):
        contexts.unpack(out.getvalue(), "near")


def test_an_imported_context_is_refused_at_the_first_file_that_is_none_of_its(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small archive can hold millions of large files, of which none must be kept."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for number in range(200):
            member = tarfile.TarInfo(f"tls/docker/{number}")
            member.size = 1 << 20
            archive.addfile(member, io.BytesIO(bytes(1 << 20)))
    read: list[str] = []
    extract = tarfile.TarFile.extractfile

    def counted(self: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes] | None:
        read.append(member.name)
        return extract(self, member)

    monkeypatch.setattr(tarfile.TarFile, "extractfile", counted)
    with pytest.raises(CommandError, match="unexpected context file: tls/docker/0"):
        contexts.unpack(out.getvalue(), "near")
    assert len(read) == 1


@pytest.mark.parametrize("data", [b"", b"PK", b"nonsense" * 100, contexts.pack(contexts.Stored({}))])
def test_what_is_no_context_is_refused(data: bytes) -> None:
    with pytest.raises(CommandError):
        contexts.unpack(data, "near")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("default", '"default" is a reserved context name'),
        ("a/b", "names are validated against regexp"),
        ("-x", "regexp"),
    ],
)
def test_names_are_checked(name: str, text: str) -> None:
    with pytest.raises(CommandError, match=text):
        contexts.check_name(name)


def test_the_current_context_is_the_flags_the_environments_or_the_files(
    home: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store.current() == "default"
    store.put(contexts.new("far", "", ENDPOINT, {}))
    store.use("far")
    assert Store(Config.load(str(home))).current() == "far"
    monkeypatch.setenv("DOCKER_CONTEXT", "near")
    assert store.current() == "near"
    monkeypatch.setenv("DOCKER_HOST", "tcp://192.0.2.2:2375")
    assert store.current() == "default"
    assert store.default().endpoint["Host"] == "tcp://192.0.2.2:2375"
    assert Store(Config.load(str(home)), "chosen").current() == "chosen"


def test_a_life(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("create", "far", "--docker", "host=tcp://192.0.2.1:2376,skip-tls-verify=true") == 0
    assert run("create", "far") == 1
    assert run("update", "far", "--description", "over there") == 0
    assert run("use", "far") == 0
    capsys.readouterr()
    assert run("ls") == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["far", "*", "over", "there", "tcp://192.0.2.1:2376"]
    assert run("rm", "far") == 1
    assert 'context "far" is in use, set -f flag to force remove' in capsys.readouterr().err
    assert run("export", "far", str(home / "far.tar")) == 0
    assert run("rm", "-f", "far") == 0
    assert run("import", "far", str(home / "far.tar")) == 0
    capsys.readouterr()
    assert run("inspect", "far", "--format", "{{.Endpoints.docker.SkipTLSVerify}}") == 0
    assert capsys.readouterr().out == "true\n"
    assert run("show") == 0
    assert capsys.readouterr().out == "default\n"
    assert run("rm", "far", "nosuch", "default") == 1
    said = capsys.readouterr()
    assert said.out == "far\n"
    assert said.err == 'context "nosuch" does not exist\ncontext "default" cannot be removed\n'


def test_a_certificate_that_is_none_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "ca.pem").write_text("no certificate")
    assert run("create", "far", "--docker", f"host=tcp://192.0.2.1:2376,ca={home / 'ca.pem'}") == 1
    assert "ca.pem seems invalid" in capsys.readouterr().err
    assert list(Store(Config.load(str(home)))) == []

import subprocess
import sys
from pathlib import Path

import pytest

from rorqual import errdefs
from rorqual.libnetwork import plugins


@pytest.fixture
def directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(plugins, "SOCKETS", (str(tmp_path / "run"),))
    monkeypatch.setattr(plugins, "SPECS", (str(tmp_path / "etc"), str(tmp_path / "lib")))
    for name in ("run", "etc", "lib"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_a_plugin_that_is_nowhere(directories: Path) -> None:
    for name in ("nosuch", "../run", "", "a" * 200):
        with pytest.raises(errdefs.NotFound, match="could not find plugin"):
            plugins.find(name, "NetworkDriver")


def test_an_engine_without_plugins_has_no_http_client_in_memory() -> None:
    code = "import sys, rorqual.libnetwork.engine; assert not {'http.client', 'email'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_resolver_process_imports_little() -> None:
    large = ("asyncio", "dataclasses", "logging", "subprocess", "sqlite3", "ipaddress", "rorqual.libnetwork.model")
    code = (
        f"import sys, rorqual.libnetwork.dns.server; found = set({large!r}) & set(sys.modules); assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rorqual import errdefs
from rorqual.libnetwork import plugins
from rorqual.libnetwork.baton import Baton


@pytest.fixture
def directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(plugins, "SOCKETS", (str(tmp_path / "run"),))
    monkeypatch.setattr(plugins, "SPECS", (str(tmp_path / "etc"), str(tmp_path / "lib")))
    for name in ("run", "etc", "lib"):
        (tmp_path / name).mkdir()
    return tmp_path


def asked(name: str) -> None:
    baton = Baton()
    with baton:
        plugins.NetworkPlugin(name, "NetworkDriver", baton).find()


def test_a_plugin_that_is_nowhere(directories: Path) -> None:
    for name in ("nosuch", "../run", "", "a" * 200):
        with pytest.raises(errdefs.NotFound, match="could not find plugin"):
            asked(name)


def test_an_engine_without_plugins_has_no_http_client_in_memory() -> None:
    code = "import sys, rorqual.libnetwork.engine; assert not {'http.client', 'email'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_resolver_process_imports_little() -> None:
    large = ("asyncio", "dataclasses", "logging", "subprocess", "sqlite3", "ipaddress", "rorqual.libnetwork.model")
    code = (
        f"import sys, rorqual.libnetwork.dns.server; found = set({large!r}) & set(sys.modules); assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "read,value",
    [
        ("text", 7),
        ("text", "a\nb"),
        ("text", "\ud800"),
        ("part", []),
        ("parts", [1]),
        ("parts", {}),
        ("number", "7"),
        ("number", True),
        ("interface", "10.0.0.0/99"),
        ("mac", "purple"),
        ("device", "../x"),
        ("device", "a" * 16),
    ],
)
def test_what_an_answer_must_not_hold_is_named(read: str, value: object) -> None:
    answer = plugins.Answer("toy", "Join", {"Key": value})
    with pytest.raises(errdefs.Internal, match="plugin toy answers Join with an invalid Key: ") as raised:
        getattr(answer, read)("Key")
    assert len(str(raised.value)) < 200


def test_what_an_answer_may_leave_out_is_empty() -> None:
    for body in ({}, {"Key": None}):
        answer = plugins.Answer("toy", "Join", body)
        assert (answer.text("Key"), answer.number("Key"), answer.mac("Key"), answer.device("Key")) == ("", 0, "", "")
        assert answer.interface("Key") is None and answer.address("Key", 4) is None and list(answer.parts("Key")) == []
        assert answer.part("Key").text("Key") == ""


def test_the_baton_is_others_while_it_is_lent() -> None:
    baton, seen = Baton(), []

    def other() -> None:
        with baton:
            seen.append("other")

    thread = threading.Thread(target=other)
    with baton:
        thread.start()
        seen.append("mine")
        with baton.lent():
            thread.join(10)
        seen.append("mine again")
    assert seen == ["mine", "other", "mine again"]

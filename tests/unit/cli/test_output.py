"""Tables, units, indented JSON, ports, progress."""

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rorqual.cli import inspection, progress, units
from rorqual.cli.commands.container.ls import Fields, displayable_ports
from rorqual.cli.commands.container.stats import compute
from rorqual.cli.commands.image.ls import rows_of
from rorqual.cli.commands.network.create import ipam_config
from rorqual.cli.commands.system.events import pretty
from rorqual.cli.errors import CommandError
from rorqual.cli.table import align


def test_columns_are_tabwriters() -> None:
    assert align("A\tLONGER HEADER\tC\nxxxxxxxxxxxx\ty\tz\n") == (
        "A              LONGER HEADER   C\nxxxxxxxxxxxx   y               z\n"
    )


def test_a_line_without_a_cell_ends_a_columns_block() -> None:
    assert align("a\tb\nplain\nlonger than that\tc") == "a         b\nplain\nlonger than that   c"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (60, "About a minute"), (120, "2 minutes"),
        (3600, "About an hour"), (7300, "2 hours"), (86400 * 2, "2 days"), (86400 * 14, "2 weeks"),
        (86400 * 70, "2 months"), (86400 * 365 * 2, "2 years"),
    ],
)  # fmt: skip
def test_ages(seconds: float, text: str) -> None:
    assert units.human_duration(seconds) == text


def test_sizes() -> None:
    assert units.human_size(1981616, 3) == "1.98MB"
    assert units.human_size(0) == "0B"
    assert units.bytes_size(25276502016) == "23.54GiB"


def test_times() -> None:
    assert units.parse_rfc3339("2026-11-24T06:25:10.5+01:00") == units.parse_rfc3339("2026-11-24T05:25:10Z") + 0.5
    assert units.parse_rfc3339("0001-01-01T00:00:00Z") == 0


def test_ports_are_grouped() -> None:
    ports: list[dict[str, Any]] = [
        {"PrivatePort": 9988, "Type": "tcp"},
        {"PrivatePort": 9989, "Type": "tcp"},
        {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
        {"IP": "::", "PrivatePort": 90, "PublicPort": 90, "Type": "udp"},
    ]
    assert displayable_ports(ports) == "[::]:90->90/udp, 9988-9989/tcp, 0.0.0.0:8080->80/tcp"


def test_containers_show_one_name_and_a_short_command() -> None:
    container = {"Id": "f" * 64, "Names": ["/a/link", "/a"], "Command": "x" * 30, "Image": "sha256:" + "e" * 64}
    container["ImageID"] = container["Image"]
    fields = Fields(True)
    assert [fields.get(container, f) for f in ("ID", "Names", "Image", "Command")] == [
        "f" * 12, "a", "e" * 12, '"' + "x" * 19 + '…"',
    ]  # fmt: skip
    assert Fields(False).get(container, "Names") == "a/link,a"
    with pytest.raises(KeyError):
        fields.get(container, "get")


def test_images_have_a_row_for_each_name() -> None:
    image: dict[str, Any] = {"RepoTags": ["a:1", "a:2"], "RepoDigests": ["a@sha256:x", "b@sha256:y"]}
    assert [(r.repository, r.tag) for r in rows_of([image], digests=False)] == [("a", "1"), ("a", "2"), ("b", "<none>")]
    assert rows_of([{"RepoTags": None, "RepoDigests": None}], digests=False)[0].tag == "<none>"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=10,
)


@given(JSON)
def test_indenting_is_gos(value: Any) -> None:
    data = json.dumps([value], separators=(",", ":")).encode()
    assert inspection.indent(data) == json.dumps([value], indent=4).replace("[\n\n", "[").replace("{\n\n", "{")
    assert inspection.compact(inspection.indent(data).encode()) == data.decode()


def test_numbers_and_escapes_stay_as_the_engine_wrote_them() -> None:
    assert inspection.compact(b'{"a": 1.50, "b": "\\u003c"}') == '{"a":1.50,"b":"\\u003c"}'


MESSAGES: list[dict[str, Any]] = [
    {"status": "Pulling from x", "id": "latest"},
    {"status": "Pulling fs layer", "progressDetail": {}, "id": "aaa"},
    {"status": "Downloading", "progressDetail": {"current": 5, "total": 10}, "id": "aaa"},
    {"status": "Pull complete", "progressDetail": {}, "id": "aaa"},
    {"status": "Digest: sha256:x"},
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        raise OSError("no descriptor")


def test_progress_is_plain_lines_without_a_terminal() -> None:
    out = io.StringIO()
    progress.display(MESSAGES, out)
    assert out.getvalue() == "latest: Pulling from x\naaa: Pulling fs layer\naaa: Pull complete\nDigest: sha256:x\n"


def test_progress_moves_the_cursor_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress.os, "get_terminal_size", lambda fd: (_ for _ in ()).throw(OSError()))
    out = Terminal()
    with pytest.raises(OSError):
        out.fileno()
    monkeypatch.setattr(out, "fileno", lambda: 1)
    progress.display(MESSAGES, out)
    assert "\x1b[1A\x1b[2K\raaa: Downloading [=========================>                         ]" in out.getvalue()
    assert out.getvalue().endswith("\x1b[1BDigest: sha256:x\n")


def test_an_error_in_the_stream_is_raised() -> None:
    with pytest.raises(progress.ProgressError, match="boom") as caught:
        progress.display([{"errorDetail": {"message": "boom", "code": 7}, "error": "boom"}], io.StringIO())
    assert caught.value.code == 7


def test_events_are_lines() -> None:
    event = {"Type": "container", "Action": "start", "Actor": {"ID": "x", "Attributes": {"b": "2", "a": "1"}}}
    assert pretty({**event, "timeNano": 0, "time": 0}).endswith(" container start x (a=1, b=2)")


def test_stats() -> None:
    cpu = {"cpu_usage": {"total_usage": 300}, "system_cpu_usage": 1000, "online_cpus": 2}
    stats = {
        "id": "i", "name": "/n", "cpu_stats": cpu,
        "precpu_stats": {"cpu_usage": {"total_usage": 100}, "system_cpu_usage": 600},
        "memory_stats": {"usage": 3 << 20, "limit": 4 << 20, "stats": {"inactive_file": 1 << 20}},
        "networks": {"eth0": {"rx_bytes": 1000, "tx_bytes": 2000}}, "pids_stats": {"current": 4},
    }  # fmt: skip
    got = compute(stats)
    assert got["CPUPerc"] == "100.00%" and got["MemUsage"] == "2MiB / 4MiB" and got["MemPerc"] == "50.00%"
    assert got["NetIO"] == "1kB / 2kB" and got["PIDs"] == "4" and got["Name"] == "n"


def test_addresses_go_to_their_subnets() -> None:
    got = ipam_config(["10.0.0.0/24", "fd00::/64"], ["10.0.0.128/25"], ["fd00::1"], {"r": "10.0.0.9"})
    assert got == [
        {"Subnet": "10.0.0.0/24", "IPRange": "10.0.0.128/25", "AuxiliaryAddresses": {"r": "10.0.0.9"}},
        {"Subnet": "fd00::/64", "Gateway": "fd00::1"},
    ]
    with pytest.raises(CommandError, match="no matching subnet for gateway"):
        ipam_config(["10.0.0.0/24"], [], ["10.1.0.1"], {})

"""CDI specs: which devices there are and what they change."""

import json
from pathlib import Path
from typing import Any

import pytest

from rorqual.api.config import DeviceRequest
from rorqual.daemon.spec import cdi
from rorqual.errdefs import Internal, InvalidArgument

SPEC: dict[str, Any] = {
    "cdiVersion": "0.6.0",
    "kind": "vendor.com/class",
    "containerEdits": {"env": ["COMMON=1"], "hooks": [{"hookName": "createRuntime", "path": "/bin/true"}]},
    "devices": [
        {
            "name": "one",
            "containerEdits": {
                "env": ["DEVICE=one"],
                "deviceNodes": [{"path": "/dev/one", "hostPath": "/dev/zero", "permissions": "r"}],
                "mounts": [{"hostPath": "/srv", "containerPath": "/srv", "options": ["ro", "rbind"]}],
                "additionalGids": [44, 0],
            },
        },
        {"name": "two", "containerEdits": {"deviceNodes": [{"path": "/dev/two", "type": "c", "major": 1, "minor": 3}]}},
    ],
}


@pytest.fixture
def directory(tmp_path: Path) -> str:
    (tmp_path / "vendor.json").write_text(json.dumps(SPEC))
    return str(tmp_path)


YAML = """
cdiVersion: "0.6.0"
kind: vendor.com/class
devices:
- name: one
  containerEdits:
    env: [DEVICE=one]
    deviceNodes:
    - {path: /dev/one, hostPath: /dev/zero, permissions: r}
    additionalGids: [44]
"""


def ask(*names: str) -> list[DeviceRequest]:
    return [DeviceRequest(driver="cdi", device_ids=names)]


def test_a_devices_edits_with_its_specs(directory: str) -> None:
    found = cdi.edits(ask("vendor.com/class=one"), [directory])
    assert found.env == ("COMMON=1", "DEVICE=one") and found.groups == (44,)
    assert [(d.path, d.type, d.major, d.minor) for d in found.devices] == [("/dev/one", "c", 1, 5)]
    assert found.rules[0].access == "r"
    assert found.mounts[0].options == ("ro", "rbind")
    made = cdi.hooks(found.hooks)
    assert made is not None and made.create_runtime[0].path == "/bin/true" and not made.poststop


def test_what_devices_of_a_spec_share_is_done_once(directory: str) -> None:
    found = cdi.edits(ask("vendor.com/class=one", "vendor.com/class=two"), [directory])
    assert found.env.count("COMMON=1") == 1 and len(found.devices) == 2


def test_devices_that_are_not_there(directory: str) -> None:
    with pytest.raises(Internal, match=r"unresolvable CDI devices vendor\.com/class=three"):
        cdi.edits(ask("vendor.com/class=one", "vendor.com/class=three"), [directory])
    with pytest.raises(InvalidArgument, match="invalid CDI device name"):
        cdi.edits(ask("../x=y"), [directory])
    with pytest.raises(InvalidArgument, match=r'could not select device driver "" with capabilities: \[\[gpu\]\]'):
        cdi.edits([DeviceRequest(count=-1, capabilities=(("gpu",),))], [directory])


def test_gpus_are_those_of_a_vendors_spec(tmp_path: Path) -> None:
    devices = [{"name": name, "containerEdits": {"env": [f"GPU={name}"]}} for name in ("0", "1", "all")]
    (tmp_path / "gpu.json").write_text(json.dumps({"kind": "nvidia.com/gpu", "devices": devices}))

    def env(**request: Any) -> tuple[str, ...]:
        return cdi.edits([DeviceRequest(capabilities=(("gpu",),), **request)], [str(tmp_path)]).env

    assert env(count=-1) == ("GPU=all",)
    assert env(count=1) == ("GPU=0",)
    assert env(device_ids=("1",)) == ("GPU=1",)


@pytest.mark.parametrize("text", ["{", "[]", '{"kind": "a.b/c"}', '{"kind": "a.b/c", "devices": [{}]}'])
def test_a_spec_that_is_none_is_passed_over(directory: str, tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    assert cdi.edits(ask("vendor.com/class=two"), [directory, "/no/such"]).devices


def test_the_later_directory_wins(directory: str, tmp_path: Path) -> None:
    later = tmp_path / "later"
    later.mkdir()
    other = {"kind": "vendor.com/class", "devices": [{"name": "two", "containerEdits": {"env": ["LATER=1"]}}]}
    (later / "x.json").write_text(json.dumps(other))
    assert cdi.edits(ask("vendor.com/class=two"), [directory, str(later)]).env == ("LATER=1",)


@pytest.mark.parametrize("ending", ["yaml", "yml"])
def test_a_spec_in_yaml(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"vendor.{ending}").write_text(YAML)
    found = cdi.edits(ask("vendor.com/class=one"), [str(tmp_path)])
    assert found.env == ("DEVICE=one",) and found.groups == (44,)
    assert [(d.path, d.type, d.major, d.minor) for d in found.devices] == [("/dev/one", "c", 1, 5)]


@pytest.mark.parametrize("text", ["a: [", "!!python/object:os.system x", "[" * 5000, "- 1", "kind: 5"])
def test_a_bad_yaml_spec_hides_no_other(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.yaml").write_text(text)
    (tmp_path / "b.yaml").write_text(YAML)
    assert cdi.edits(ask("vendor.com/class=one"), [str(tmp_path)]).env == ("DEVICE=one",)
    assert "a.yaml" in caplog.text

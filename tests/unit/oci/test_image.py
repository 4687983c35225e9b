import hashlib
import json

import pytest

from rorqual.errdefs import DataLoss, InvalidArgument
from rorqual.oci import digest, image

D = "sha256:" + "a" * 64
BASE = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [D, D]}}


def parsed(**fields: object) -> image.Image:
    return image.parse(json.dumps({**BASE, **fields}).encode())


def test_dockers_fields_are_kept() -> None:
    config = {
        "User": "1000:1000",
        "Env": ["A=b"],
        "Entrypoint": ["/e"],
        "Cmd": ["c"],
        "WorkingDir": "/w",
        "ExposedPorts": {"80/tcp": {}},
        "Volumes": {"/data": {}},
        "Labels": {"k": "v"},
        "StopSignal": "SIGQUIT",
        "StopTimeout": 3,
        "Healthcheck": {"Test": ["CMD", "x"], "Interval": 5_000_000_000, "Retries": 2},
        "Shell": ["/bin/bash", "-c"],
        "OnBuild": ["RUN x"],
    }
    found = parsed(config=config, history=[{"created_by": "x", "empty_layer": True}])
    assert found.config.to_json() == config
    assert found.config.healthcheck is not None and found.config.healthcheck.interval_ns == 5_000_000_000
    assert found.history[0].empty_layer


def test_null_and_empty_lists_are_told_apart() -> None:
    found = parsed(config={"Cmd": None, "Entrypoint": [], "Env": None})
    assert found.config.cmd is None and found.config.entrypoint == () and found.config.env == ()


def test_chain_ids_follow_the_specification() -> None:
    second = "sha256:" + hashlib.sha256(f"{D} {D}".encode()).hexdigest()
    assert parsed().chain_ids == (D, second)


@pytest.mark.parametrize(
    "fields",
    [
        {"os": ""},
        {"rootfs": None},
        {"rootfs": {"type": "other"}},
        {"rootfs": {"type": "layers", "diff_ids": ["x"]}},
        {"config": []},
        {"config": {"Env": [1]}},
        {"config": {"Labels": {"a": 1}}},
        {"config": {"Env": ["x"] * 10_001}},
    ],
)
def test_malformed_configs_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        parsed(**fields)


def test_cve_2026_47262_a_huge_config_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(InvalidArgument, match="at most"):
        image.parse(b" " * (image.MAX_CONFIG_BYTES + 1))


def test_verifier_stops_at_the_promised_size() -> None:
    verifier = digest.Verifier(digest.of(b"abc"), 3)
    verifier.update(b"abc")
    verifier.check()
    with pytest.raises(DataLoss):
        verifier.update(b"d")
    short = digest.Verifier(digest.of(b"abc"), 3)
    short.update(b"ab")
    with pytest.raises(DataLoss):
        short.check()
    wrong = digest.Verifier(digest.of(b"abc"), 3)
    wrong.update(b"abd")
    with pytest.raises(DataLoss):
        wrong.check()


@pytest.mark.parametrize("text", ["", "sha256", "sha256:", "sha256:" + "A" * 64, "sha256:" + "a" * 63, "x:" + "a" * 64])
def test_bad_digests_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        digest.parse(text)


def test_half_of_a_surrogate_pair_is_replaced() -> None:
    """Nothing could encode it: a container of such an image could not be made, nor told why."""
    raw = (
        b'{"architecture":"amd64","os":"linux","config":{"Env":["A=\\ud800"]},"rootfs":{"type":"layers","diff_ids":[]}}'
    )
    assert image.parse(raw).config.env == ("A=\ufffd",)

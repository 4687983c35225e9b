"""What seals a manager's state: nothing is read without the key, and nothing is passed off as something else."""

import json
import os
from pathlib import Path

import pytest

from rorqual.errdefs import DataLoss, InvalidArgument, PermissionDenied
from rorqual.swarm.keys import KeyFile, Keys, Sealer, new_state_key, new_unlock_key


def test_what_is_sealed_opens_under_its_name_and_key_only() -> None:
    sealer = Sealer(new_state_key())
    sealed = sealer.seal(b"secret", b"a")
    assert sealer.open(sealed, b"a") == b"secret" and b"secret" not in sealed
    assert sealer.seal(b"secret", b"a") != sealed
    changed = bytes([sealed[0] ^ 1]) + sealed[1:]
    for broken, name in ((sealed, b"b"), (changed, b"a"), (sealed[:-1], b"a"), (b"", b"a")):
        with pytest.raises(DataLoss):
            sealer.open(broken, name)
    with pytest.raises(DataLoss):
        Sealer(new_state_key()).open(sealed, b"a")


def test_a_locked_file_holds_no_key(tmp_path: Path) -> None:
    file, keys, unlock = KeyFile(tmp_path / "keys.json"), Keys(new_state_key(), "node key"), new_unlock_key()
    file.save(keys)
    assert not file.locked and file.load() == keys
    assert os.stat(tmp_path / "keys.json").st_mode & 0o777 == 0o600
    file.save(keys, unlock)
    assert file.locked and "node key" not in (tmp_path / "keys.json").read_text()
    assert file.load(unlock) == keys
    with pytest.raises(PermissionDenied, match="invalid key provided"):
        file.load(new_unlock_key())
    for bad in ("", "SWMKEY-1-", "SWMKEY-1-AAAA", unlock.removeprefix("SWMKEY-1-"), unlock + "!"):
        with pytest.raises(InvalidArgument):
            file.load(bad)
    file.save(keys)
    assert not file.locked


@pytest.mark.parametrize("text", ["", "[]", "{", "{}", '{"state": 1, "node": ""}', '{"sealed": "AAAA"}'])
def test_a_damaged_file_is_told_as_that(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys.json").write_text(text)
    with pytest.raises((DataLoss, PermissionDenied)):
        KeyFile(tmp_path / "keys.json").load(new_unlock_key())


def test_a_cut_short_write_leaves_the_old_file(tmp_path: Path) -> None:
    file, keys = KeyFile(tmp_path / "keys.json"), Keys(new_state_key(), "node key")
    file.save(keys)
    (tmp_path / "keys.json.new").write_text(json.dumps({"state": ""})[:5])
    assert file.load() == keys

"""Docker's dm.* options."""

import pytest

from rorqual.containerd.snapshotters.dmoptions import DmOptions, parse
from rorqual.errdefs import InvalidArgument


def test_docker_s_defaults() -> None:
    assert parse([]) == DmOptions()
    assert (DmOptions().base_bytes, DmOptions().block_bytes) == (10 << 30, 64 << 10)


def test_each_option_is_read() -> None:
    given = parse(
        [
            "dm.thinpooldev=/dev/mapper/vg-pool",
            "dm.basesize=20G",
            "dm.fs=xfs",
            "dm.mkfsarg=-m crc=1",
            "dm.mountopt=nodiscard",
            "dm.min_free_space=15%",
            "dm.blkdiscard=false",
            "dm.blocksize=128K",
            "dm.use_deferred_removal=true",
            "dm.xfs_nospace_max_retries=0",
        ]
    )
    assert given == DmOptions(
        pool="vg-pool",
        base_bytes=20 << 30,
        file_system="xfs",
        mkfs_arguments=("-m", "crc=1"),
        mount_options="nodiscard",
        min_free_percent=15,
        discard=False,
        block_bytes=128 << 10,
    )
    direct = parse(["dm.directlvm_device=/dev/sdx", "dm.thinp_percent=80", "dm.thinp_metapercent=5"])
    assert (direct.device, direct.data_percent, direct.metadata_percent) == ("/dev/sdx", 80, 5)


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("dm.nonsense=1", "Unknown option dm.nonsense"),
        ("dm.fs", "unable to parse key/value option: dm.fs"),
        ("dm.fs=reiserfs", "Unsupported filesystem reiserfs"),
        ("dm.basesize=big", "invalid size: 'big'"),
        ("dm.basesize=-1g", "invalid size: '-1g'"),
        ("dm.basesize=1m", "dm.basesize 1048576 is too small"),
        ("dm.min_free_space=100%", "Invalid value 100% for dm.min_free_space"),
        ("dm.blocksize=100k", "dm.blocksize 102400 is no multiple of 64k"),
        ("dm.use_deferred_removal=perhaps", "'perhaps' is neither true nor false"),
        ("dm.directlvm_device=sdb", "'sdb' is no path of a block device"),
        ("dm.datadev=/dev/sdb", "dm.datadev is deprecated: use dm.thinpooldev"),
        ("dm.libdm_log_level=loud", "'loud' is no number"),
    ],
)
def test_one_that_makes_no_sense_is_named(option: str, text: str) -> None:
    with pytest.raises(InvalidArgument, match=text.replace("(", r"\(")):
        parse([option])


def test_options_that_exclude_each_other() -> None:
    with pytest.raises(InvalidArgument, match="cannot both be given"):
        parse(["dm.thinpooldev=p", "dm.directlvm_device=/dev/sdx"])
    with pytest.raises(InvalidArgument, match="more than 100 together"):
        parse(["dm.thinp_percent=99", "dm.thinp_metapercent=2"])

"""Options of the local volume driver."""

import pytest

from rorqual.daemon.services import localmounts
from rorqual.errdefs import InvalidArgument
from rorqual.linux import mount


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"foo": "x"}, 'invalid option: "foo"'),
        ({"type": "tmpfs"}, 'missing required option: "device"'),
        ({"device": "/srv"}, 'missing required option: "type"'),
        ({"o": "bind"}, 'missing required option: "device"'),
        ({"size": "1g"}, "quota size requested but no quota support"),
    ],
)
def test_options_that_are_refused(options: dict[str, str], text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        localmounts.check(options)


def test_flags_are_told_from_data() -> None:
    parsed = localmounts.parse({"type": "tmpfs", "device": "tmpfs", "o": "size=1m,nosuid,ro,rw,uid=5"})
    assert parsed == localmounts.LocalMount("tmpfs", "tmpfs", mount.MS_NOSUID, "size=1m,uid=5")
    bound = localmounts.parse({"type": "none", "device": "/srv", "o": "rbind,ro"})
    assert bound is not None and bound.is_bind and bound.flags & mount.MS_REC and bound.flags & mount.MS_RDONLY
    assert localmounts.parse({}) is None

import pytest

from rorqual.distribution.progress import LayerEvent, LayerState, Message, bar, human_size, render


def test_lines_are_dockers() -> None:
    assert render(Message("Pulling from library/busybox", "latest")) == {
        "status": "Pulling from library/busybox",
        "id": "latest",
    }
    assert render(Message("Digest: x")) == {"status": "Digest: x"}
    assert render(LayerEvent("0123456789ab", LayerState.PULLING)) == {
        "status": "Pulling fs layer",
        "progressDetail": {},
        "id": "0123456789ab",
    }
    assert render(LayerEvent("0123456789ab", LayerState.DOWNLOADING, 1_000_000, 2_213_000)) == {
        "status": "Downloading",
        "progressDetail": {"current": 1_000_000, "total": 2_213_000},
        "progress": "[======================>                            ]      1MB/2.213MB",
        "id": "0123456789ab",
    }
    assert render(LayerEvent("a", LayerState.RETRYING, 1))["status"] == "Retrying in 1 second"
    assert render(LayerEvent("a", LayerState.RETRYING, 5))["status"] == "Retrying in 5 seconds"


def test_bar_is_full_at_the_end_and_never_longer() -> None:
    assert bar(10, 10).startswith("[" + "=" * 50 + ">] ") and bar(20, 10) == bar(10, 10)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (999, "999B"), (1000, "1kB"), (2_213_456, "2.213MB"), (12_345_678_901, "12.35GB"), (5e15, "5000TB")],
)
def test_human_sizes(size: float, text: str) -> None:
    assert human_size(size) == text

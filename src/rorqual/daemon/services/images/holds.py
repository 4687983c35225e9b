"""The images that builds stand on: their steps begin from them, so they are not removed meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Holds:
    """By image id, as often as there are builds that hold one."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()

    def __contains__(self, image_id: str) -> bool:
        return self._held[image_id] > 0

    @contextmanager
    def of_build(self) -> Iterator[Callable[[str], None]]:
        """What holds an image until the block ends."""
        mine: set[str] = set()

        def hold(image_id: str) -> None:
            if image_id not in mine:
                mine.add(image_id)
                self._held[image_id] += 1

        try:
            yield hold
        finally:
            self._held -= Counter(mine)  # those at zero are dropped

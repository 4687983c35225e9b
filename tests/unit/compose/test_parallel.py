"""Work in the order of what it needs."""

import threading
import time

import pytest

from rorqual.compose.parallel import each, in_order

NEEDS = {"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": [], "e": ["elsewhere"]}


@pytest.mark.parametrize("reverse", [False, True])
def test_each_behind_what_it_needs(reverse: bool) -> None:
    done: list[str] = []
    in_order(NEEDS, done.append, reverse=reverse)
    assert sorted(done) == ["a", "b", "c", "d", "e"]
    before = {"d": ["b", "c"], "b": ["a"], "c": ["a"]}
    for first, others in before.items():
        for other in others:
            assert (done.index(first) < done.index(other)) is not reverse


def test_at_once_and_no_more_than_is_allowed() -> None:
    together = threading.Barrier(3, timeout=10)
    each(range(3), lambda _: together.wait())
    running, most = 0, 0
    lock = threading.Lock()

    def count(_: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1

    each(range(6), count, most=2)
    assert most <= 2


def test_an_error_ends_it_once_what_was_begun_has_ended() -> None:
    done: list[str] = []
    release = threading.Event()

    def act(name: str) -> None:
        if name == "b":
            raise ValueError("b failed")
        if name == "c":
            release.wait(10)
        done.append(name)

    threading.Timer(0.1, release.set).start()
    with pytest.raises(ValueError, match="b failed"):
        in_order({"a": ["b"], "b": [], "c": []}, act)
    assert done == ["c"]


def test_nothing_is_no_work() -> None:
    each([], pytest.fail)

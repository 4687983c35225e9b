"""Records are frozen dataclasses to whoever looks at them."""

import copy
import dataclasses
import pickle

import pytest

from rorqual.record import record, replace


@record
class Point:
    """A place."""

    x: int
    y: int = 2

    def sum(self) -> int:
        return self.x + self.y


def test_members_come_by_position_or_name_and_default() -> None:
    assert (Point(1).sum(), Point(1, 5).sum(), Point(y=1, x=3).sum()) == (3, 6, 4)


@pytest.mark.parametrize(("values", "named"), [((), {}), ((1, 2, 3), {}), ((1,), {"x": 2}), ((1,), {"z": 2})])
def test_wrong_members_are_refused(values: tuple[int, ...], named: dict[str, int]) -> None:
    with pytest.raises(TypeError):
        Point(*values, **named)


def test_they_do_not_change_and_compare_by_value() -> None:
    point = Point(1)
    with pytest.raises(AttributeError, match="does not change"):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(AttributeError):
        del point.y
    assert not hasattr(point, "__dict__")
    assert point == Point(1, 2)
    assert point != Point(2)
    assert len({point, Point(1), Point(2)}) == 2
    assert repr(point) == "Point(x=1, y=2)"


def test_what_dataclasses_offers_works_on_them() -> None:
    point = Point(1)
    assert dataclasses.replace(point, y=9) == replace(point, y=9) == Point(1, 9)
    assert dataclasses.asdict(point) == {"x": 1, "y": 2}
    assert [field.name for field in dataclasses.fields(point)] == ["x", "y"]
    match point:
        case Point(x, 2):
            assert x == 1
        case _:
            raise AssertionError("no match")
    assert copy.deepcopy(point) == pickle.loads(pickle.dumps(point)) == point

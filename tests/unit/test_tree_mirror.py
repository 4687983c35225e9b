"""The tests mirror the tree: each package of the source has its directory, and no test is for what is not there."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = REPOSITORY / "src" / "rorqual"
UNIT = REPOSITORY / "tests" / "unit"
INTEGRATION = REPOSITORY / "tests" / "integration"


def packages() -> list[str]:
    return sorted(
        str(init.parent.relative_to(SOURCE)) for init in SOURCE.glob("*/__init__.py") if any(init.parent.glob("*.py"))
    )


def has_tests(package: str) -> bool:
    return any(any((top / package).glob("**/test_*.py")) for top in (UNIT, INTEGRATION))


def test_every_package_has_tests_of_its_own() -> None:
    untested = [package for package in packages() if not has_tests(package)]
    assert not untested, f"no tests/unit/<package> nor tests/integration/<package> for: {', '.join(untested)}"


def test_every_directory_of_tests_is_for_a_package() -> None:
    for top in (UNIT, INTEGRATION):
        for directory in top.iterdir():
            if directory.is_dir() and directory.name != "__pycache__" and any(directory.glob("**/test_*.py")):
                assert (SOURCE / directory.name).is_dir(), f"{directory} tests a package that is not there"


def test_no_room_is_named_after_nothing() -> None:
    vague = {"utils", "util", "helpers", "common", "misc"}
    found = [
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        if path.stem in vague or path.parent.name in vague
    ]
    assert not found

"""Stores over a database of the test's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rorqual.containerd.metadata.database import Database
from rorqual.containerd.metadata.namespaces import Namespaces


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "meta.db")
    yield database
    database.close()


@pytest.fixture
def namespaces(db: Database) -> Namespaces:
    return Namespaces(db)

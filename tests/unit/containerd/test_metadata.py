"""The stores: names, masks of updates, transactions, what survives."""

import asyncio
import os
import signal
import sqlite3
from pathlib import Path

import pytest

from rorqual import errdefs
from rorqual.containerd.metadata.containers import Containers
from rorqual.containerd.metadata.content import ContentTable
from rorqual.containerd.metadata.database import Database
from rorqual.containerd.metadata.images import Images
from rorqual.containerd.metadata.leases import Leases
from rorqual.containerd.metadata.namespaces import Namespaces
from rorqual.containerd.metadata.records import Descriptor, Image, Resource
from rorqual.rpc.proto.containers_pb2 import Container

TARGET = Descriptor("application/vnd.oci.image.manifest.v1+json", "sha256:" + "1" * 64, 10)
OTHER = Descriptor("application/vnd.oci.image.manifest.v1+json", "sha256:" + "2" * 64, 11)


def container(container_id: str = "c1", **labels: str) -> Container:
    made = Container(id=container_id, labels=labels, image="busybox", snapshotter="overlayfs", snapshot_key="k")
    made.runtime.name = "io.containerd.runc.v2"
    made.spec.type_url = "types.containerd.io/opencontainers/runtime-spec/1/Spec"
    made.spec.value = b"{}"
    return made


class TestDatabase:
    def test_a_failed_transaction_leaves_nothing(self, db: Database) -> None:
        with pytest.raises(ZeroDivisionError), db.write():
            db.execute("INSERT INTO namespaces (name) VALUES ('x')")
            with db.write():
                db.execute("INSERT INTO namespaces (name) VALUES ('y')")
            raise ZeroDivisionError
        assert db.rows("SELECT name FROM namespaces") == []

    def test_a_newer_schema_is_refused(self, tmp_path: Path) -> None:
        connection = sqlite3.connect(tmp_path / "new.db")
        connection.execute("PRAGMA user_version=99")
        connection.close()
        with pytest.raises(errdefs.Internal, match="newer"):
            Database(tmp_path / "new.db")

    def test_a_commit_survives_sigkill(self, tmp_path: Path) -> None:
        pid = os.fork()
        if pid == 0:
            try:
                database = Database(tmp_path / "k.db")
                database.execute("INSERT INTO namespaces (name) VALUES ('kept')")
            finally:
                os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(pid, 0)
        database = Database(tmp_path / "k.db")
        assert database.rows("SELECT name FROM namespaces") == [("kept",)]
        database.close()

    async def test_concurrent_durable_calls_share_a_sync(self, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        syncs = 0

        def count(_fd: int) -> None:
            nonlocal syncs
            syncs += 1

        monkeypatch.setattr(os, "fdatasync", count)
        await asyncio.gather(*(db.durable() for _ in range(50)))
        assert syncs == 2  # the one under way, and one for all who came after it had begun
        await db.durable()
        assert syncs == 3


class TestNamespaces:
    def test_a_write_makes_its_namespace(self, db: Database, namespaces: Namespaces) -> None:
        Images(db, namespaces).create("moby", Image("a", TARGET))
        assert namespaces.all() == [("moby", {})]

    def test_only_an_empty_one_is_deleted(self, db: Database, namespaces: Namespaces) -> None:
        images = Images(db, namespaces)
        images.create("moby", Image("a", TARGET))
        with pytest.raises(errdefs.Conflict, match="must be empty, but it still has images"):
            namespaces.delete("moby")
        images.delete("moby", "a")
        namespaces.delete("moby")
        with pytest.raises(errdefs.NotFound):
            namespaces.get("moby")

    @pytest.mark.parametrize("name", ["", "../x", "a/b", "-a", "a" * 77, "ü"])
    def test_names_that_could_be_paths_are_refused(self, namespaces: Namespaces, name: str) -> None:
        with pytest.raises(errdefs.InvalidArgument):
            namespaces.create(name, {})


class TestImages:
    def test_names_are_unique_in_a_namespace_only(self, db: Database, namespaces: Namespaces) -> None:
        images = Images(db, namespaces)
        images.create("a", Image("x", TARGET))
        images.create("b", Image("x", TARGET))
        with pytest.raises(errdefs.AlreadyExists, match='image "x": already exists'):
            images.create("a", Image("x", TARGET))

    def test_a_masked_update_changes_the_named_fields_only(self, db: Database, namespaces: Namespaces) -> None:
        images = Images(db, namespaces)
        made = images.create("a", Image("x", TARGET, {"k": "v", "gone": "1"}))
        images.update("a", Image("x", OTHER, {"new": "2"}), ["target"])
        images.update("a", Image("x", TARGET, {"new": "2"}), ["labels.new", "labels.gone"])
        now = images.get("a", "x")
        assert (now.target, now.labels) == (OTHER, {"k": "v", "new": "2"})
        assert now.created_ns == made.created_ns < now.updated_ns
        with pytest.raises(errdefs.InvalidArgument, match="cannot update"):
            images.update("a", Image("x", TARGET), ["name"])

    def test_delete_with_another_target_is_refused(self, db: Database, namespaces: Namespaces) -> None:
        images = Images(db, namespaces)
        images.create("a", Image("x", TARGET))
        with pytest.raises(errdefs.NotFound):
            images.delete("a", "x", OTHER.digest)
        images.delete("a", "x", TARGET.digest)


class TestContainers:
    def test_what_was_stored_comes_back(self, db: Database, namespaces: Namespaces) -> None:
        containers = Containers(db, namespaces)
        made = containers.create("a", container(x="y"))
        assert containers.get("a", "c1") == made
        assert made.HasField("created_at")

    def test_a_masked_update_changes_the_named_fields_only(self, db: Database, namespaces: Namespaces) -> None:
        containers = Containers(db, namespaces)
        containers.create("a", container(x="y", z="1"))
        change = Container(id="c1", labels={"x": "2"}, image="other")
        change.extensions["e"].value = b"ext"
        containers.update("a", change, ["labels.x", "extensions.e"])
        now = containers.get("a", "c1")
        assert dict(now.labels) == {"x": "2", "z": "1"}
        assert now.image == "busybox"
        assert now.extensions["e"].value == b"ext"
        with pytest.raises(errdefs.InvalidArgument):
            containers.update("a", change, ["runtime.name"])

    def test_an_incomplete_one_is_refused(self, db: Database, namespaces: Namespaces) -> None:
        containers = Containers(db, namespaces)
        with pytest.raises(errdefs.InvalidArgument):
            containers.create("a", Container(id="c1"))
        with pytest.raises(errdefs.InvalidArgument):
            containers.create("a", container("../c1"))


class TestLeases:
    def test_resources_go_with_the_lease(self, db: Database, namespaces: Namespaces) -> None:
        leases = Leases(db, namespaces)
        leases.create("a", "l", {})
        leases.hold("a", "l", Resource("content", TARGET.digest))
        leases.hold("a", "l", Resource("content", TARGET.digest))
        assert leases.resources("a", "l") == [Resource("content", TARGET.digest)]
        leases.delete("a", "l")
        assert db.rows("SELECT * FROM lease_resources") == []

    def test_holding_needs_the_lease_and_a_known_type(self, db: Database, namespaces: Namespaces) -> None:
        leases = Leases(db, namespaces)
        with pytest.raises(errdefs.NotFound):
            leases.hold("a", "l", Resource("content", "x"))
        leases.create("a", "l", {})
        with pytest.raises(errdefs.InvalidArgument):
            leases.hold("a", "l", Resource("sandwiches", "x"))


class TestContent:
    def test_a_blob_goes_with_its_last_namespace(self, db: Database, namespaces: Namespaces) -> None:
        table = ContentTable(db, namespaces)
        table.add("a", TARGET.digest, 10, {})
        table.add("b", TARGET.digest, 10, {})
        assert not table.remove("a", TARGET.digest)
        assert table.remove("b", TARGET.digest)

    def test_an_ingest_begun_again_is_the_same(self, db: Database, namespaces: Namespaces) -> None:
        table = ContentTable(db, namespaces)
        first = table.begin("a", "ref", "", 0)
        again = table.begin("a", "ref", TARGET.digest, 10)
        assert (again.id, again.expected, again.total) == (first.id, TARGET.digest, 10)
        assert table.begin("a", "ref", "", 0).expected == TARGET.digest

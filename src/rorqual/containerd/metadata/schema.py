"""The database's tables. A change is a new entry at the end of MIGRATIONS, never an edit of an old one.

Times are nanoseconds since 1970; labels and annotations JSON objects of strings; `body` an encoded protobuf message.
"""

_V1 = """
CREATE TABLE namespaces (name TEXT PRIMARY KEY, labels TEXT NOT NULL DEFAULT '{}') WITHOUT ROWID;

CREATE TABLE images (
    ns TEXT NOT NULL, name TEXT NOT NULL, labels TEXT NOT NULL, media_type TEXT NOT NULL, digest TEXT NOT NULL,
    size INTEGER NOT NULL, annotations TEXT NOT NULL, created_ns INTEGER NOT NULL, updated_ns INTEGER NOT NULL,
    PRIMARY KEY (ns, name)) WITHOUT ROWID;

CREATE TABLE content (
    ns TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL, labels TEXT NOT NULL,
    created_ns INTEGER NOT NULL, updated_ns INTEGER NOT NULL,
    PRIMARY KEY (ns, digest)) WITHOUT ROWID;
CREATE INDEX content_by_digest ON content (digest);

-- writes under way; the bytes are content/ingest/<id>
CREATE TABLE ingests (
    id INTEGER PRIMARY KEY AUTOINCREMENT, ns TEXT NOT NULL, ref TEXT NOT NULL, expected TEXT NOT NULL,
    total INTEGER NOT NULL, started_ns INTEGER NOT NULL, updated_ns INTEGER NOT NULL,
    UNIQUE (ns, ref));

-- kind as in snapshots.proto: 1 view, 2 active, 3 committed. size and inodes: usage, of committed ones.
-- pinned: made outside any lease, so only a Remove ends it. transient: being unpacked by an ingest worker.
-- implied: JSON list, directories the layer has without having an entry for them; or an object, records.Pending
CREATE TABLE snapshots (
    id INTEGER PRIMARY KEY, snapshotter TEXT NOT NULL, ns TEXT NOT NULL, name TEXT NOT NULL,
    parent INTEGER REFERENCES snapshots (id), kind INTEGER NOT NULL, labels TEXT NOT NULL,
    created_ns INTEGER NOT NULL, updated_ns INTEGER NOT NULL,
    size INTEGER NOT NULL DEFAULT 0, inodes INTEGER NOT NULL DEFAULT 0,
    pinned INTEGER NOT NULL DEFAULT 0, transient INTEGER NOT NULL DEFAULT 0, implied TEXT NOT NULL DEFAULT '[]',
    UNIQUE (snapshotter, ns, name));
CREATE INDEX snapshots_by_parent ON snapshots (parent);

CREATE TABLE containers (
    ns TEXT NOT NULL, id TEXT NOT NULL, labels TEXT NOT NULL, snapshotter TEXT NOT NULL, snapshot_key TEXT NOT NULL,
    body BLOB NOT NULL, PRIMARY KEY (ns, id));

CREATE TABLE leases (
    ns TEXT NOT NULL, id TEXT NOT NULL, labels TEXT NOT NULL, created_ns INTEGER NOT NULL,
    PRIMARY KEY (ns, id)) WITHOUT ROWID;
CREATE TABLE lease_resources (
    ns TEXT NOT NULL, lease TEXT NOT NULL, type TEXT NOT NULL, id TEXT NOT NULL,
    PRIMARY KEY (ns, lease, type, id),
    FOREIGN KEY (ns, lease) REFERENCES leases (ns, id) ON DELETE CASCADE) WITHOUT ROWID;
"""

# unsynced: of committed ones, the boot id of the machine while their files may be in memory only; '' when on disk
_V2 = "ALTER TABLE snapshots ADD COLUMN unsynced TEXT NOT NULL DEFAULT '';"

MIGRATIONS: tuple[str, ...] = (_V1, _V2)

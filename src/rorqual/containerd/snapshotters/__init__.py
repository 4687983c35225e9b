"""Snapshotters: one file each, over one tree of snapshots."""

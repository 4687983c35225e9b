"""What containerd knows: namespaces, images, content, snapshots, containers and leases, in one SQLite database."""

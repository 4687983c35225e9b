"""rorqual-containerd: content, snapshots, metadata, leases, tasks and events behind containerd's gRPC services."""

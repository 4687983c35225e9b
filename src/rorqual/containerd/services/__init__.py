"""containerd's gRPC services: each file one; they translate, the stores decide."""

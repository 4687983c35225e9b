"""IP address management: `pools` gives subnets to networks, `allocator` gives a network's addresses to endpoints."""

"""Building a container's root from inside its new mount namespace, in the child, before it enters the rootfs."""

"""From ContainerConfig, HostConfig and the image to the OCI runtime-spec: pure functions and tables."""

"""rorquald: the Engine API over containerd, libnetwork and the stores of names. Process: rorquald."""

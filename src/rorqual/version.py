"""The release this tree builds, and the Engine API versions it speaks."""

__version__ = "0.1.0"

API_VERSION = "1.56"  # newest Engine API served; source: engine-api-v1.56.yaml, info.version
MIN_API_VERSION = "1.24"  # oldest served, as dockerd's

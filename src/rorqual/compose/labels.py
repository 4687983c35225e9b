"""Labels by which what belongs to a project is found again: Docker Compose's own, so that both find the same."""

from __future__ import annotations

PREFIX = "com.docker.compose."
PROJECT = PREFIX + "project"
SERVICE = PREFIX + "service"
NUMBER = PREFIX + "container-number"
ONE_OFF = PREFIX + "oneoff"
CONFIG_HASH = PREFIX + "config-hash"
CONFIG_FILES = PREFIX + "project.config_files"
WORKING_DIR = PREFIX + "project.working_dir"
DEPENDS_ON = PREFIX + "depends_on"
IMAGE = PREFIX + "image"
NETWORK = PREFIX + "network"
VOLUME = PREFIX + "volume"
VERSION = PREFIX + "version"
SLUG = PREFIX + "slug"
REPLACES = PREFIX + "replace"

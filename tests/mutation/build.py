"""What protects the host, and other images, from contexts, images and Dockerfiles."""

from mutation.mutations import mutation

_BUILD = "tests/integration/daemon/test_build.py::"
_BUILDKIT = "tests/integration/daemon/test_buildkit.py::"
_OPENED_BY_NAME = (
    "linux/paths.py",
    "    return openat2(root_fd, path, flags, mode=mode, resolve=_IN_ROOT, waits=waits)\n",
    '    return os.open(f"/proc/self/fd/{root_fd}/{os.fsdecode(path)}", flags | os.O_CLOEXEC, mode)\n',
)

MUTATIONS = (
    mutation(
        "everything is opened beneath the context by fd",
        f"{_BUILD}test_a_hostile_context_reaches_nothing_of_the_host",
        _OPENED_BY_NAME,
    ),
    mutation(
        "everything is opened beneath the image's root by fd",
        f"{_BUILD}test_a_hostile_image_reaches_nothing_of_the_host",
        _OPENED_BY_NAME,
    ),
    mutation(
        "only what a build of this engine made is looked at",
        f"{_BUILD}test_cve_2024_24557_an_image_from_elsewhere_is_no_cache",
        (
            "daemon/services/build/images.py",
            "if not image.built or image.parent != state.id:",
            "if image.parent != state.id:",
        ),
    ),
    mutation(
        "the words of a step and the whole config that it gives are compared",
        f"{_BUILD}test_cve_2024_24557_every_instruction_counts",
        (
            "daemon/services/build/images.py",
            'if len(history) != length or history[-1].get("created_by") != made_by:',
            "if len(history) != length:",
        ),
        ("daemon/services/build/images.py", 'if document.get("config") == wanted and ', "if "),
    ),
    mutation(
        "a container goes however its step ends",
        f"{_BUILD}test_a_client_that_goes_away_ends_its_build",
        ("daemon/services/build/stage.py", "        remove = options.force_remove\n", "        remove = False\n"),
    ),
    mutation(
        "a cache's directory is named by a digest",
        f"{_BUILDKIT}test_cve_2024_23651_a_cache_shows_its_own_directory_only",
        (
            "daemon/services/build/caches.py",
            'hashlib.sha256(id.encode(errors="surrogateescape")).hexdigest()',
            'f"{id}"',
        ),
    ),
    mutation(
        "empty places are looked for beneath the container's own files",
        f"{_BUILDKIT}test_cve_2024_23652_nothing_of_the_host_is_taken_away_as_an_empty_place",
        _OPENED_BY_NAME,
    ),
    mutation(
        "sources of mounts are opened beneath the context",
        f"{_BUILDKIT}test_a_mounts_source_does_not_lead_out_of_the_context",
        _OPENED_BY_NAME,
    ),
    mutation(
        "keys of mounts are a closed list",
        "tests/unit/builder/test_mounts.py::test_what_is_wrong_is_named",
        ("builder/dockerfile/mounts.py", "        if key not in _KEYS[kind]:\n", "        if not key:\n"),
    ),
    mutation(
        "what needs an entitlement is refused",
        f"{_BUILDKIT}test_cve_2024_23653_no_command_gets_more_than_its_build_may",
        (
            "daemon/services/build/stage.py",
            '"RUN": frozenset(("network", "mount")),',
            '"RUN": frozenset(("network", "mount", "security")),',
        ),
        ("daemon/services/build/stage.py", '(("RUN", "security"), ', "("),
    ),
    mutation(
        "a secret's file is in memory",
        f"{_BUILDKIT}test_secrets_are_given_to_one_command_and_are_in_no_layer",
        (
            "daemon/services/build/runmounts.py",
            "tempfile.mkdtemp(dir=session.parts.run)",
            "tempfile.mkdtemp(dir=session.parts.scratch)",
        ),
        (
            "daemon/services/build/runmounts.py",
            "    stack.push_async_callback(asyncio.to_thread, shutil.rmtree, directory, True)\n    return directory\n",
            "    return directory\n",
        ),
    ),
    mutation(
        "a file's directory was made by the same transfer",
        "tests/unit/daemon/test_filesync.py::test_what_a_client_may_not_say",
        (
            "daemon/services/buildkit/filesync.py",
            "        if parent and parent not in self._directories:\n",
            "        if not path:\n",
        ),
    ),
    mutation(
        "what is no instruction is refused",
        "tests/unit/builder/test_parser.py::test_what_cannot_be_read",
        ("builder/dockerfile/parser.py", "        if name not in INSTRUCTIONS:\n", "        if not name:\n"),
    ),
)

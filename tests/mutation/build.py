"""What protects the host, and other images, from contexts, images and Dockerfiles."""

from mutation.mutations import mutation

_BUILD = "tests/integration/daemon/test_build.py::"
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
        "what is no instruction is refused",
        "tests/unit/builder/test_parser.py::test_what_cannot_be_read",
        ("builder/dockerfile/parser.py", "        if name not in INSTRUCTIONS:\n", "        if not name:\n"),
    ),
)

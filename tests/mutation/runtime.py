"""What protects the host from a container's processes: the runtime, the shim, the API's objects made of them."""

from mutation.mutations import mutation

_RUNC = "tests/integration/runc/test_security.py::"
_HOSTILE = "tests/integration/runc/test_hostile.py::"
_ENGINE = "tests/integration/test_security.py::"

# Protections that several tests prove.
_OPEN = (
    "runc/process/child.py",
    "    process.close_from(3, keep | {end.fileno()} | frozenset(range(3, 3 + preserve_fds)))\n",
    "",
)
_INHERITED = ("runc/process/child.py", "    process.cloexec_from(3 + plan.preserve_fds)", "    pass")
_DUMPABLE = (
    "runc/process/child.py",
    "    profiles = _open_labels(plan)\n    process.prctl(process.PR_SET_DUMPABLE, 0)\n",
    "    profiles = _open_labels(plan)\n",
)
_DEV_BY_NAME = (
    "runc/rootfs/devices.py",
    '        os.close(paths.mkdir_all_in_root(root_fd, "dev"))\n'
    '        dev_fd = paths.open_beneath(root_fd, "dev", os.O_PATH | os.O_DIRECTORY)\n',
    '        os.chdir(f"/proc/self/fd/{root_fd}")\n        dev_fd = os.open("dev", os.O_PATH | os.O_DIRECTORY)\n',
)
_MOUNT_BY_NAME = (
    "runc/rootfs/mounts.py",
    "    target = paths.mkdir_all_in_root(root_fd, planned.mount.destination)\n    _checked(root_fd, target, planned)\n",
    '    name = os.readlink(f"/proc/self/fd/{root_fd}") + planned.mount.destination\n'
    "    os.makedirs(name, exist_ok=True)\n    target = paths.open_root(name)\n",
)
_USERS_BY_NAME = (
    (
        "runc/process/users.py",
        "        data = paths.read_in_root(root_fd, path, _LIMIT_BYTES)\n",
        '        data = open(os.readlink(f"/proc/self/fd/{root_fd}") + "/" + path, "rb").read()\n',
    ),
    ("runc/process/users.py", "from rorqual.linux import paths\n", "import os\n"),
)
_ANY_ID = ("runc/process/users.py", "    if len(text) > 10 or int(text) > _ID_MAX:\n", "    if not text:\n")

MUTATIONS = (
    mutation(
        "the seal against writing",
        _RUNC + "test_cve_2019_5736_the_interpreter_cannot_be_written",
        ("linux/sealed.py", " | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE", " | fcntl.F_SEAL_GROW"),
    ),
    mutation(
        "not dumpable before the namespaces are joined",
        _HOSTILE + "test_cve_2019_5736_an_exec_on_its_way_in_shows_nothing_of_the_host",
        _DUMPABLE,
    ),
    mutation(
        "closing of descriptors",
        _ENGINE + "test_cve_2024_21626_only_the_three_standard_descriptors_are_open",
        (
            "runc/process/child.py",
            "    process.close_from(3, keep | {end.fileno()} | frozenset(range(3, 3 + preserve_fds)))\n",
            "    for number in range(3, 64):\n        with suppress(OSError):\n            os.set_inheritable(number, True)\n",
        ),
        _INHERITED,
    ),
    mutation(
        "closing of descriptors",
        _HOSTILE + "test_cve_2024_21626_an_exec_has_the_three_standard_descriptors",
        _OPEN,
        _INHERITED,
    ),
    mutation(
        "the working directory's check, and closing of descriptors before it is made and entered",
        _RUNC + "test_cve_2024_21626_cwd_through_a_leaked_fd",
        _OPEN,
        (
            "runc/process/identity.py",
            "        os.close(paths.mkdir_all_in_root(root_fd, cwd))\n",
            "        os.makedirs(cwd, exist_ok=True)\n",
        ),
        ("runc/process/identity.py", "    _check_cwd(cwd)\n    return True", "    return True"),
    ),
    mutation(
        "the working directory's check, and closing of descriptors before it is entered",
        _RUNC + "test_cve_2024_21626_exec",
        _OPEN,
        ("runc/process/identity.py", "    _check_cwd(cwd)\n    return True", "    return True"),
    ),
    mutation(
        "the host's own null device as mask",
        _RUNC + "test_cve_2025_31133_a_swapped_dev_null_masks_nothing_else",
        (
            "runc/rootfs/masks.py",
            "    null = _open_null()\n",
            '    null = paths.open_in_root(root_fd, "dev/null", os.O_PATH)\n',
        ),
    ),
    mutation(
        "no link is followed to the console",
        _RUNC + "test_cve_2025_52565_dev_console_is_a_symlink",
        (
            "runc/rootfs/devices.py",
            "os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY",
            "os.O_CREAT | os.O_CLOEXEC | os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY",
        ),
        (
            "runc/rootfs/devices.py",
            'target = paths.open_beneath(dev_fd, "console", os.O_PATH | os.O_NOFOLLOW)',
            'target = paths.open_in_root(root_fd, "dev/console", os.O_PATH)',
        ),
    ),
    mutation(
        "mounts over /proc are refused",
        _RUNC + "test_cve_2025_52881_nothing_is_mounted_into_proc",
        ("runc/rootfs/mounts.py", "        _refuse_in_proc(real[len(root) :], planned)\n", ""),
    ),
    mutation(
        "/proc and /sys are ordinary directories",
        _RUNC + "test_proc_and_sys_go_on_no_symlink",
        (
            "runc/rootfs/mounts.py",
            "        return paths.open_beneath(root_fd, destination, os.O_PATH | os.O_DIRECTORY)",
            "        return paths.open_in_root(root_fd, destination, os.O_PATH | os.O_DIRECTORY)",
        ),
    ),
    mutation(
        "sysctls are written through the host's /proc",
        _HOSTILE + "test_cve_2025_52881_sysctls_go_to_the_kernel_though_the_image_has_such_files",
        (
            "runc/rootfs/prepare.py",
            "        _write_sysctl(name, value)\n",
            "        os.fchdir(root_fd)\n        _write_sysctl(name, value)\n",
        ),
        (
            "runc/rootfs/prepare.py",
            '        proc = os.open("/proc", os.O_PATH',
            '        proc = os.open("proc", os.O_PATH',
        ),
        (
            "runc/rootfs/prepare.py",
            "                if paths.filesystem_type(fd) != paths.PROC_SUPER_MAGIC:\n",
            "                if not fd:\n",
        ),
    ),
    mutation(
        "masked and read-only paths of /proc",
        _ENGINE + "test_cve_2025_52881_sysctls_and_labels_reach_the_real_proc_only",
        ("runc/rootfs/masks.py", "    for path in dict.fromkeys(read_only):\n", "    for path in ():\n"),
    ),
    mutation(
        "oom_score_adj is written before the container's /proc is entered",
        _HOSTILE + "test_cve_2025_52881_no_write_goes_where_the_container_has_put_its_own_proc",
        (
            "runc/process/child.py",
            "    if plan.oom_score_adj is not None:\n        identity.write_oom_score(plan.oom_score_adj, warnings)\n",
            "",
        ),
        (
            "runc/process/child.py",
            '    root_fd = paths.open_root("/")\n',
            '    root_fd = paths.open_root("/")\n    identity.write_oom_score(plan.oom_score_adj or 0, warnings)\n',
        ),
    ),
    mutation(
        "/dev is a directory, no link",
        _RUNC + "test_cve_2026_41579_dev_is_a_symlink",
        _DEV_BY_NAME,
    ),
    mutation(
        "/dev is a directory, no link",
        _HOSTILE + "test_cve_2026_41579_dev_swapped_during_the_start",
        _DEV_BY_NAME,
    ),
    mutation(
        "targets of mounts are resolved inside of the root",
        _RUNC + "test_cve_2021_30465_race_of_mount_targets",
        _MOUNT_BY_NAME,
    ),
    mutation(
        "files that are made as mount points are made inside of the root",
        _HOSTILE + "test_cve_2021_30465_files_made_as_mount_points_stay_inside",
        (
            "runc/rootfs/mounts.py",
            "            target = paths.create_in_root(root_fd, planned.mount.destination)\n",
            '            name = os.readlink(f"/proc/self/fd/{root_fd}") + planned.mount.destination\n'
            "            os.makedirs(os.path.dirname(name), exist_ok=True)\n"
            "            target = os.open(name, os.O_CREAT, 0o600)\n",
        ),
    ),
    mutation(
        "links in mount points are resolved inside of the root",
        _RUNC + "test_links_in_mount_targets_stay_in_the_rootfs",
        (
            "runc/rootfs/mounts.py",
            "            target = paths.mkdir_all_in_root(root_fd, planned.mount.destination)\n",
            '            target = paths.open_root(os.readlink(f"/proc/self/fd/{root_fd}") + planned.mount.destination)\n',
        ),
        ("runc/rootfs/mounts.py", '        if not real.startswith(root + "/"):\n', "        if not real:\n"),
    ),
    mutation(
        "mount points are resolved inside of the root",
        _HOSTILE + "test_mount_points_that_are_links_stay_in_the_rootfs",
        _MOUNT_BY_NAME,
    ),
    mutation(
        "masked paths are resolved inside of the root",
        _HOSTILE + "test_masked_and_read_only_paths_through_links_cover_the_containers_own_files",
        (
            "runc/rootfs/masks.py",
            "        return paths.open_in_root(root_fd, path, os.O_PATH)\n",
            '        return os.open(os.readlink(f"/proc/self/fd/{root_fd}") + path, os.O_PATH)\n',
        ),
    ),
    mutation(
        "the user's files are opened inside of the root",
        _RUNC + "test_passwd_is_the_containers_own",
        *_USERS_BY_NAME,
    ),
    mutation(
        "the user's files are opened inside of the root",
        _HOSTILE + "test_files_of_users_that_are_swapped_during_the_lookup",
        *_USERS_BY_NAME,
    ),
    mutation(
        "the user's files are regular ones of a bounded size",
        _RUNC + "test_passwd_that_blocks_or_never_ends",
        ("linux/paths.py", "        if not stat.S_ISREG(os.fstat(fd).st_mode):\n", "        if path == b'':\n"),
    ),
    mutation(
        "a terminal is of devpts",
        _HOSTILE + "test_a_terminal_comes_from_devpts_only",
        (
            "runc/rootfs/devices.py",
            "            if paths.filesystem_type(pts) != paths.DEVPTS_SUPER_MAGIC:\n",
            "            if not pts:\n",
        ),
    ),
    mutation(
        "/dev/null is checked",
        _HOSTILE + "test_dev_null_that_is_something_else_is_never_used",
        (
            "runc/process/identity.py",
            "            if not paths.is_null_device(replacement):\n",
            "            if not replacement:\n",
        ),
    ),
    mutation(
        "closed state directories",
        _ENGINE + "test_cve_2024_25621_state_directories_are_closed_to_others",
        (
            "daemon/engine.py",
            "((config.data_root, 0o700), (config.exec_root, 0o700),",
            "((config.data_root, 0o755), (config.exec_root, 0o755),",
        ),
        (
            "daemon/storagedriver.py",
            "os.makedirs(data_root, 0o700, exist_ok=True)",
            "os.makedirs(data_root, 0o755, exist_ok=True)",
        ),
    ),
    mutation(
        "closed state directories",
        _RUNC + "test_cve_2024_25621_state_is_private",
        ("runc/state.py", "            os.mkdir(self.path, 0o700)\n", "            os.mkdir(self.path, 0o755)\n"),
    ),
    mutation(
        "the bound of IDs",
        _ENGINE + "test_cve_2024_40635_ids_beyond_31_bits_are_refused",
        _ANY_ID,
    ),
    mutation(
        "the bound of IDs",
        _RUNC + "test_cve_2024_40635_in_the_images_passwd",
        _ANY_ID,
    ),
    mutation(
        "the bound of IDs",
        _RUNC + "test_cve_2024_40635_ids_above_int32",
        ("oci/runtime.py", '    "ID": (0, 2**31 - 1),\n', '    "ID": (0, 2**32 - 1),\n'),
    ),
    mutation(
        "the rule of address families",
        _ENGINE + "test_cve_2026_31431_af_alg_and_other_rare_sockets_are_denied",
        (
            "oci/defaults.py",
            '        _when("socket", 0, _AF_ALG, "SCMP_CMP_LT"),\n',
            '        _when("socket", 0, 0, "SCMP_CMP_GE"),\n',
        ),
    ),
    mutation(
        "the rule of address families",
        _RUNC + "test_cve_2026_31431_af_alg_and_vsock_are_denied",
        (
            "oci/defaults.py",
            '        _when("socket", 0, _AF_ALG, "SCMP_CMP_LT"),\n',
            '        _when("socket", 0, 0, "SCMP_CMP_GE"),\n',
        ),
    ),
    mutation(
        "capabilities are dropped",
        _ENGINE + "test_the_default_container_cannot",
        ("runc/process/identity.py", "            capabilities.bound_to(sets.bounding)\n", "            pass\n"),
        ("runc/process/identity.py", "            _set_capabilities(sets)\n", "            pass\n"),
    ),
    mutation(
        "the seccomp profile is loaded",
        _ENGINE + "test_the_default_container_cannot",
        (
            "runc/process/identity.py",
            "        if not plan.no_new_privileges and plan.seccomp is not None:\n",
            "        if plan.seccomp is None:\n",
        ),
    ),
    mutation(
        "devices' rules",
        _ENGINE + "test_the_default_container_cannot",
        ("runc/cgroups/devices.py", '"devices.allow" if rule.allow else "devices.deny"', '"devices.allow"'),
    ),
    mutation(
        "masked paths",
        _ENGINE + "test_the_default_container_cannot",
        ("runc/rootfs/masks.py", "    if not masked:\n", "    if masked:\n"),
    ),
    mutation(
        "no import after the root was entered",
        _RUNC + "test_cve_2019_14271_nothing_is_imported_in_the_rootfs",
        (
            "runc/process/child.py",
            '    root_fd = paths.open_root("/")\n',
            '    root_fd = paths.open_root("/")\n    import encodings.idna as _idna  # noqa: F401\n',
        ),
    ),
    mutation(
        "the pids limit",
        _RUNC + "test_fork_bomb_is_bounded_by_pids",
        ("runc/cgroups/pids.py", "    if pids.limit is None or pids.limit == 0:\n", "    if pids:\n"),
    ),
    mutation(
        "every process of the group is killed, until there is none",
        _HOSTILE + "test_a_process_that_forks_without_end_is_ended_with_the_container",
        ("runc/cgroups/pids.py", "    if pids.limit is None or pids.limit == 0:\n", "    if pids:\n"),
    ),
    mutation(
        "/dev is a directory, no link",
        "tests/integration/runc/test_swaps.py::test_nothing_outside_is_touched_while_everything_is_swapped",
        _DEV_BY_NAME,
    ),
    mutation(
        "targets of mounts are resolved inside of the root",
        "tests/integration/runc/test_swaps.py::test_nothing_outside_is_touched_while_everything_is_swapped",
        _MOUNT_BY_NAME,
    ),
    mutation(
        "a hook that hangs is ended with what it started",
        "tests/integration/runc/test_races.py::test_a_hook_that_hangs_is_ended_with_its_children",
        ("runc/hooks.py", "            os.killpg(pid, signal.SIGKILL)\n", "            os.kill(pid, signal.SIGKILL)\n"),
    ),
    mutation(
        "an exec that failed is ended and collected",
        _HOSTILE + "test_an_init_that_ends_in_the_middle_of_an_exec",
        ("runc/execution.py", "                parent.reap(pid)\n", ""),
    ),
)

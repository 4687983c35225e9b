"""What protects the host from files: copies in and out of containers, trees that are packed, measured, removed."""

from mutation.mutations import mutation

_CP = "tests/integration/daemon/test_archive.py::"
_PACKED_BY_NAME = (
    "distribution/pack/packer.py",
    '            readable = os.open(b"/proc/self/fd/%d" % fd, _READ | os.O_DIRECTORY)\n',
    "            readable = os.open(name, _READ | os.O_DIRECTORY, dir_fd=level.fd)\n",
)
_BY_NAME = (
    "linux/paths.py",
    "    return openat2(root_fd, path, flags, mode=mode, resolve=_IN_ROOT, waits=waits)\n",
    "    return os.open(os.readlink(f'/proc/self/fd/{root_fd}') + '/' + os.fsdecode(path), flags, mode)\n",
)

MUTATIONS = (
    mutation(
        "each step is one name below a descriptor, without following it",
        "tests/unit/linux/test_paths.py::test_a_swapper_cannot_lead_outside",
        (
            "linux/paths.py",
            "                step = openat2(passed[-1], name, os.O_PATH | os.O_NOFOLLOW, resolve=RESOLVE_BENEATH)\n",
            "                step = os.open(name, os.O_PATH, dir_fd=passed[-1])\n",
        ),
    ),
    mutation(
        "a directory is read by the descriptor that was looked at",
        "tests/integration/distribution/test_pack.py::"
        "test_what_is_swapped_for_a_link_once_it_was_looked_at_is_read_all_the_same",
        _PACKED_BY_NAME,
    ),
    mutation(
        "paths are resolved inside of the container's root",
        _CP + "test_cve_2018_15664_a_link_swapped_during_cp_never_leads_to_the_host",
        _BY_NAME,
        (
            "distribution/unpack/tree.py",
            '        return paths.openat2(root_fd, path or b".", _DIR_FLAGS, resolve=resolve, waits=True)\n',
            '        return os.open(b"/proc/self/fd/%d/" % root_fd + path, _DIR_FLAGS)\n',
        ),
    ),
    mutation(
        "special bits are set by descriptor",
        "tests/unit/distribution/test_copying.py::"
        "test_cve_2018_15664_a_fifo_swapped_for_a_link_does_not_change_the_hosts_modes",
        (
            "distribution/unpack/apply.py",
            "            _chmod_special(parent, base, entry.mode)\n",
            "            os.chmod(base, entry.mode, dir_fd=parent)\n",
        ),
    ),
    mutation(
        "archives are unpacked by the library",
        _CP + "test_cve_2026_41567_archives_are_not_unpacked_by_the_containers_programs",
        (
            "daemon/services/containers/archive.py",
            "        unpack.apply(body, root.fd, copying=copying)\n",
            "        import subprocess\n\n"
            "        program = ['chroot', f'/proc/self/fd/{root.fd}', 'xz']\n"
            "        subprocess.run(program, check=False, pass_fds=(root.fd,), stdin=subprocess.DEVNULL)\n"
            "        unpack.apply(body, root.fd, copying=copying)\n",
        ),
    ),
    mutation(
        "targets of binds are pinned below the root",
        _CP + "test_cve_2026_42306_mount_targets_that_are_links_stay_in_the_container",
        (
            "daemon/services/containers/rootfs.py",
            "                target = paths.mkdir_all_in_root(root, bind.destination)\n",
            "                target = paths.open_root(os.readlink(f'/proc/self/fd/{root}') + bind.destination)\n",
        ),
    ),
    mutation(
        "the container's users are read as text",
        _CP + "test_cve_2019_14271_nothing_of_the_container_is_loaded_by_the_engine",
        (
            "daemon/services/containers/archive.py",
            '    users = _entries(root, "etc/passwd")\n',
            "    import ctypes\n\n"
            "    ctypes.CDLL(os.readlink(f'/proc/self/fd/{root}') + '/lib/libnss_files.so.2')\n"
            '    users = _entries(root, "etc/passwd")\n',
        ),
    ),
    mutation(
        "a volume is measured without recursion",
        "tests/unit/daemon/test_volume_sizes.py::test_a_deep_tree_is_measured_too",
        (
            "daemon/services/volumes.py",
            '            levels.enter(inner, os.fstat(inner), b"")\n    return total\n',
            "            os.close(inner)\n            total += size_of(f'/proc/self/fd/{level.fd}/{os.fsdecode(name)}')\n"
            "    return total\n",
        ),
    ),
    mutation(
        "a volume is measured without following links",
        "tests/unit/daemon/test_volume_sizes.py::test_a_directory_swapped_for_a_link_leads_nowhere",
        (
            "daemon/services/volumes.py",
            "                inner = os.open(name, _DIRECTORY, dir_fd=level.fd)\n",
            "                inner = os.open(name, os.O_RDONLY, dir_fd=level.fd)\n",
        ),
    ),
    mutation(
        "a layer is measured without recursion",
        "tests/unit/containerd/test_measure.py::test_a_tree_deeper_than_a_path_can_be_is_measured_too",
        (
            "containerd/snapshotters/tree.py",
            '                levels.enter(inner, os.fstat(inner), b"")\n    return Usage(size, inodes)\n',
            "                size += measure(f'{path}/{os.fsdecode(name)}').bytes\n    return Usage(size, inodes)\n",
        ),
    ),
    mutation(
        "documents of an archive are compared with their digests",
        "tests/integration/daemon/test_save_load.py::test_a_hostile_archive_is_refused_and_leaves_nothing",
        (
            "daemon/services/images/archive.py",
            '        if digest and hashlib.new(digest.partition(":")[0], data).hexdigest() != digest.partition(":")[2]:\n',
            "        if digest and not data:\n",
        ),
    ),
    mutation(
        "the names of a context's files",
        "tests/unit/cli/test_contexts.py::test_an_imported_context_writes_nothing_elsewhere",
        (
            "cli/contexts.py",
            '            raise CommandError(f"unexpected context file: {path}")\n',
            "            tls[path] = content\n",
        ),
    ),
)

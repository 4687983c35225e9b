"""What protects the host from images and registries, and the API from who asks it."""

from mutation.mutations import mutation

_UNPACK = "tests/integration/distribution/test_unpack.py::"
_LYING = "tests/integration/distribution/test_lying_registry.py::"
_STREAMS = "tests/unit/daemon/test_image_streams.py::"
_WEB = "tests/unit/daemon/test_web.py::"
_SIGNED = "tests/integration/distribution/test_signatures.py::"
_LISTENERS = "tests/integration/daemon/test_listeners.py::"
_RESOLVED_BY_NAME = (
    "distribution/unpack/tree.py",
    '        return paths.openat2(root_fd, path or b".", _DIR_FLAGS, resolve=resolve, waits=True)\n',
    '        return os.open(b"/proc/self/fd/%d/" % root_fd + path, _DIR_FLAGS)\n',
)

MUTATIONS = (
    mutation(
        "nothing is followed on the way to a link's file",
        "tests/contracts/test_snapshotters.py::test_a_layers_hard_link_to_a_file_of_the_layers_below",
        (
            "containerd/snapshotters/hardlinks.py",
            "inner = paths.open_beneath(fd, name, _LOOK)",
            "inner = os.open(name, os.O_PATH, dir_fd=fd)",
        ),
    ),
    mutation(
        "the bound of a config's size",
        "tests/unit/oci/test_image.py::test_cve_2026_47262_a_huge_config_is_refused_before_it_is_parsed",
        (
            "oci/image.py",
            'Fields.load(raw, "image config", MAX_CONFIG_BYTES)',
            'Fields.load(raw, "image config", 1 << 60)',
        ),
    ),
    mutation(
        "what is known of a container goes before its labels",
        "tests/unit/shim/test_log_messages.py::test_cve_2026_53488_labels_of_an_image_do_not_say_whose_output_it_is",
        (
            "shim/logdrivers/fluentd.py",
            '{**info.attrs, "container_id": info.id, "container_name": f"/{info.name}"}',
            '{"container_id": info.id, "container_name": f"/{info.name}", **info.attrs}',
        ),
    ),
    mutation(
        "line ends in a tag are replaced",
        "tests/unit/shim/test_log_messages.py::test_a_tag_with_line_ends_makes_no_second_syslog_message",
        ("shim/logdrivers/syslog.py", '"".join(c if c.isprintable() else "?" for c in info.tag)', "info.tag"),
    ),
    mutation(
        "the user alone chooses probes of the network",
        "tests/unit/daemon/test_health.py::test_cve_2026_53488_an_image_does_not_make_the_shim_connect",
        ("daemon/spec/merge.py", "test=own.test or _test(image) or None,", "test=own.test or image.test or None,"),
    ),
    mutation(
        "parents are resolved inside of the layer",
        _UNPACK + "test_cve_2025_47290_writing_through_a_link_stays_in_the_root",
        _RESOLVED_BY_NAME,
    ),
    mutation(
        "times are set without following links",
        _UNPACK + "test_cve_2021_32760_modes_and_times_are_never_set_through_a_link",
        (
            "distribution/unpack/apply.py",
            "        os.utime(base, ns=(entry.atime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)\n",
            "        os.utime(base, ns=(entry.atime_ns, entry.mtime_ns), dir_fd=parent)\n",
        ),
    ),
    mutation(
        "the bound of the ratio",
        _UNPACK + "test_gzip_bomb_is_refused_by_size_and_by_ratio",
        (
            "distribution/unpack/pipeline.py",
            "        if self.size > limits.ratio_free_bytes and self.size > limits.max_ratio * self._source.count:\n",
            "        if self.size < 0:\n",
        ),
    ),
    mutation(
        "the bound of the files' lengths",
        _UNPACK + "test_sparse_bomb_is_refused",
        (
            "distribution/unpack/apply.py",
            "        if self.size > limits.max_logical_bytes:\n",
            "        if self.size < 0:\n",
        ),
    ),
    mutation(
        "zstd is decompressed in pieces",
        _UNPACK + "test_zstd_bomb_does_not_grow_in_memory",
        (
            "distribution/unpack/decompress.py",
            "            data = source.read(chunk_bytes)\n        except zstandard",
            "            data = source.read(1 << 30)\n        except zstandard",
        ),
    ),
    mutation(
        "the bound of xz's memory",
        _STREAMS + "test_xz_that_asks_for_much_memory_is_refused",
        (
            "daemon/services/images/compress.py",
            "partial(lzma.LZMADecompressor, memlimit=XZ_MAX_BYTES)",
            "partial(lzma.LZMADecompressor)",
        ),
    ),
    mutation(
        "the bound of xz's memory",
        _STREAMS + "test_an_archive_that_asks_for_much_memory_is_not_loaded",
        (
            "distribution/unpack/decompress.py",
            "lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MAX_BYTES)",
            "lzma.LZMADecompressor(lzma.FORMAT_XZ)",
        ),
    ),
    mutation(
        "parents are resolved inside of the layer",
        "tests/integration/test_bad_input.py::test_a_malicious_tar_never_writes_outside_its_layer",
        _RESOLVED_BY_NAME,
    ),
    mutation(
        "the ambiguous is refused",
        "tests/unit/oci/test_manifest.py::test_cve_2021_41190_manifest_confusion_is_refused",
        ("oci/manifest.py", "    if has_image and has_index:\n", "    if has_image and not fields:\n"),
    ),
    mutation(
        "layers are compared with their digests",
        "tests/integration/containerd/test_ingest.py::test_other_bytes_than_the_digest_says_are_dropped",
        (
            "containerd/worker.py",
            "        if self._digest and digest != self._digest:\n",
            "        if self._digest and not digest:\n",
        ),
    ),
    mutation(
        "a redirect gets no Authorization",
        _LYING + "test_redirects_are_followed_without_authorization",
        (
            "distribution/transport.py",
            "            if authorization is not None and _origin_of(url) == origin:\n",
            "            if authorization is not None and origin:\n",
        ),
    ),
    mutation(
        "what fills a volume is opened inside of the image's root",
        "tests/integration/test_security.py::test_cve_2022_23648_an_images_volume_cannot_read_the_host",
        (
            "daemon/copyup.py",
            '            source = paths.open_in_root(root_fd, request["path"], os.O_RDONLY | os.O_DIRECTORY)\n',
            '            source = os.open(root + request["path"], os.O_RDONLY | os.O_DIRECTORY)\n',
        ),
    ),
    mutation(
        "hard links of what fills a volume",
        "tests/unit/daemon/test_copyup.py::test_hard_links_of_an_image_stay_one_file",
        (
            "daemon/copyup.py",
            "            if info.st_nlink > 1 and self._link(target, name, info):\n",
            "            if info.st_nlink < 0:\n",
        ),
    ),
    mutation(
        "holes of what fills a volume",
        "tests/unit/daemon/test_copyup.py::test_holes_of_an_image_stay_holes",
        (
            "daemon/copyup.py",
            "            position = os.lseek(read_fd, position, os.SEEK_DATA)\n",
            "            position += os.lseek(read_fd, 0, os.SEEK_CUR) * 0\n",
        ),
        (
            "daemon/copyup.py",
            "        stop = min(size, os.lseek(read_fd, position, os.SEEK_HOLE))\n",
            "        stop = min(size, 1 << 31)\n",
        ),
    ),
    mutation(
        "few guesses wait, in a thread of their own",
        "tests/unit/distribution/test_htpasswd.py::test_guesses_of_strangers_neither_take_every_thread_nor_pile_up",
        (
            "distribution/serve/htpasswd.py",
            "        if self._waiting >= _WAITING_MAX:\n",
            "        if self._waiting < 0:\n",
        ),
    ),
    mutation(
        "two lengths are refused",
        _WEB + "test_what_two_readers_could_understand_differently_is_refused",
        (
            "daemon/web/head.py",
            "        if length is not None:\n            raise Malformed",
            "        if length == 'no':\n            raise Malformed",
        ),
    ),
    mutation(
        "blanks are matched in one way only",
        _WEB + "test_a_field_that_is_refused_is_refused_at_once",
        ("daemon/web/head.py", ":[ \\t]*+((?:", ":[ \\t]*((?:"),
    ),
    mutation(
        "errors of the engine are told as such",
        "tests/integration/daemon/test_api_fuzz.py::test_no_request_is_answered_by_500_or_a_traceback",
        (
            "daemon/api/http.py",
            "            raise errdefs.InvalidArgument(f'strconv.Atoi: parsing \"{value}\": invalid syntax') from None\n",
            "            raise\n",
        ),
    ),
    mutation(
        "the origin and the host of a request are looked at",
        _LISTENERS + "test_a_web_page_does_not_reach_the_engine_on_the_loopback",
        ("daemon/api/http.py", "        _refuse_pages(request)\n", ""),
    ),
    mutation(
        "the origin and the host of a request are looked at",
        "tests/integration/daemon/registry/test_serving.py::test_a_web_page_does_not_reach_the_registry",
        (
            "distribution/serve/app.py",
            "        if request.transport is not None and (reason :=",
            "        if request.transport is None and (reason :=",
        ),
    ),
    mutation(
        "pings are not answered while nobody reads",
        "tests/unit/daemon/test_websocket.py::test_pings_of_a_client_that_does_not_read_are_not_piled_up",
        (
            "daemon/api/websocket.py",
            "        if opcode == PING and self.is_slow:\n",
            "        if opcode == PING and not payload:\n",
        ),
    ),
    mutation(
        "the bound of an answer's depth",
        "tests/unit/test_plugins.py::test_answers_that_are_failures",
        ("plugins.py", "    _check_depth(answer)\n", ""),
    ),
    mutation(
        "clients' certificates are asked for",
        _LISTENERS + "test_a_client_without_a_certificate_of_the_ca_gets_nothing",
        ("daemon/listen.py", "            context.verify_mode = ssl.CERT_REQUIRED\n", ""),
    ),
    mutation(
        "tcp without TLS is refused",
        _LISTENERS + "test_tcp_for_everybody_needs_tls_or_the_word_that_it_shall_not",
        ("daemon/config.py", 'if host.startswith("tcp://") and not (', 'if host.startswith("nothing://") and not ('),
    ),
    mutation(
        "the socket's mode",
        _LISTENERS + "test_the_unix_socket_is_for_root_and_its_group",
        ("daemon/listen.py", "mode=0o660, backlog=BACKLOG", "mode=0o666, backlog=BACKLOG"),
    ),
    mutation(
        "what was checked is what is pulled",
        _SIGNED + "test_a_tag_that_moves_after_the_check_changes_nothing",
        (
            "distribution/pull.py",
            "            await self._signatures.demand(repository, reference, digests)\n",
            "            await self._signatures.demand(repository, reference, digests)\n"
            "            resolved = await self._resolve(repository, await repository.manifest(asked), wanted)\n",
        ),
    ),
    mutation(
        "the key and what was signed are looked at",
        _SIGNED + "test_signatures_by_others_or_of_others_do_not_count",
        (
            "distribution/signatures/check.py",
            "    return any(key.made(signature, claim.message) for key in rule.keys for signature in claim.signatures)\n",
            "    return True\n",
        ),
    ),
    mutation(
        "the kind of what was signed is looked at",
        _SIGNED + "test_an_attestation_by_the_right_key_does_not_sign",
        ("distribution/signatures/claims.py", "    if predicate != _SIGNED:\n", "    if not predicate:\n"),
    ),
)

"""What keeps a swarm's secrets from who reads a manager's disk."""

from mutation.mutations import mutation

MUTATIONS = (
    mutation(
        "every value is sealed before etcd has it",
        "tests/integration/daemon/test_swarm.py::test_etcds_files_tell_nothing",
        ("swarm/keys.py", "return nonce + self._cipher.encrypt(nonce, plain, name)", "return plain"),
        (
            "swarm/keys.py",
            "return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], name)",
            "return sealed",
        ),
    ),
    mutation(
        "the keys of a locked swarm are sealed with the unlock key",
        "tests/unit/swarm/test_keys.py::test_a_locked_file_holds_no_key",
        ("swarm/keys.py", "        if unlock_key:\n", "        if False:\n"),
    ),
    mutation(
        "a value opens under its own name only",
        "tests/unit/swarm/test_keys.py::test_what_is_sealed_opens_under_its_name_and_key_only",
        ("swarm/keys.py", "self._cipher.encrypt(nonce, plain, name)", 'self._cipher.encrypt(nonce, plain, b"")'),
        ("swarm/keys.py", "sealed[_NONCE_BYTES:], name)", 'sealed[_NONCE_BYTES:], b"")'),
    ),
)

"""Keys of every kind, and signatures that are not theirs."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from support.signing import KINDS, signer

from rorqual.distribution.signatures import keys
from rorqual.errdefs import InvalidArgument


@pytest.mark.parametrize("kind", KINDS)
def test_a_signature_is_its_keys_and_its_messages_alone(kind: str, tmp_path: Path) -> None:
    own, other = signer(kind), signer(kind)
    key = keys.load(own.write(tmp_path / "own.pub"))
    signature = own.sign(b"message")
    assert key.made(signature, b"message")
    assert not key.made(signature, b"another")
    assert not key.made(signature[:-1] + bytes([signature[-1] ^ 1]), b"message")
    assert not key.made(b"", b"message")
    assert not key.made(other.sign(b"message"), b"message")
    for foreign in KINDS:
        if foreign != kind:
            assert not key.made(signer(foreign).sign(b"message"), b"message")


def test_openssl_signs_the_same(tmp_path: Path) -> None:
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    private, public, message = tmp_path / "k", tmp_path / "k.pub", tmp_path / "m"
    message.write_bytes(b"message")
    subprocess.run(["openssl", "ecparam", "-genkey", "-name", "prime256v1", "-out", private], check=True)
    subprocess.run(["openssl", "ec", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
    command = ["openssl", "dgst", "-sha256", "-sign", str(private), str(message)]
    signature = subprocess.run(command, check=True, capture_output=True).stdout
    assert keys.load(str(public)).made(signature, b"message")


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form)


def test_what_is_no_key_or_a_weak_one_is_refused_by_name(tmp_path: Path) -> None:
    weak = _pem(rsa.generate_private_key(65537, 1024))
    curve = _pem(ec.generate_private_key(ec.SECP256K1()))
    cases = {
        "text": (b"not a key", "not a public key in PEM form"),
        "weak": (weak, "RSA with 1024 bits, at least 2048 are needed"),
        "curve": (curve, "the curve secp256k1 is not supported"),
        "long": (bytes(100_000), "longer than"),
    }
    for name, (data, text) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InvalidArgument, match=f"key {tmp_path / name}: {text}"):
            keys.load(str(tmp_path / name))
    with pytest.raises(InvalidArgument, match=r"missing: no such file or directory"):
        keys.load(str(tmp_path / "missing"))
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InvalidArgument, match="not a regular file"):
        keys.load(str(tmp_path / "fifo"))

"""Signatures on a manifest: whoever ran it vouches for these files by their key.

Ed25519 over a DSSE envelope (v1) that holds an in-toto statement (v1): its subjects are the files
of the manifest with their sha256, its predicate names the manifest and its root. Tools that know
these two formats can read it. The manifest says what the files are, the signature that it is the
one that was signed: `manifest.check` and `verify` belong together.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from bandlimit.errors import UserError
from bandlimit.files import store
from bandlimit.provenance import manifest

PAYLOAD = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:bandlimit:manifest:v1"
"""Type of what the statement says of its subjects; a name of ours, nothing to fetch."""

BESIDE = (
    "results/provenance/ro-crate.zip",
    "results/provenance/ro-crate/ro-crate-metadata.json",
)
"""What is made of a manifest and signed with it; the metadata name all else in the crate."""


def generate(private_path: str | os.PathLike[str], public_path: str | os.PathLike[str]) -> None:
    """Write a new pair of keys as PEM; the private one is for its owner's eyes alone (mode 0600).

    Raises:
        UserError: a file of that name exists, which is never overwritten, or can't be written.
    """
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    _create(private_path, private, 0o600)
    try:
        _create(public_path, public, 0o644)
    except UserError:
        os.unlink(private_path)
        raise


def sign(
    manifest_path: str | os.PathLike[str],
    key_path: str | os.PathLike[str],
    out: str | os.PathLike[str],
) -> None:
    """Sign a manifest, and the research object beside it, with a private key.

    Args:
        manifest_path: the manifest.
        key_path: an Ed25519 private key as PEM, not encrypted.
        out: the envelope to write.

    Raises:
        UserError: the manifest was changed since it was made, or the key can't be used.
    """
    key = _private_key(key_path)
    flaw = manifest.flaw(manifest_path, manifest.read(manifest_path))
    if flaw is not None:
        raise UserError(f"The manifest {str(manifest_path)!r} can't be signed: {flaw}.")
    statement = _statement(manifest_path, _beside(manifest_path))
    payload = json.dumps(statement, sort_keys=True, indent=1).encode()
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD,
        "signatures": [
            {
                "keyid": fingerprint(key.public_key()),
                "sig": base64.b64encode(key.sign(_encoded(PAYLOAD, payload))).decode(),
            }
        ],
    }
    with store.atomic(out) as temporary:
        temporary.write_text(json.dumps(envelope, indent=1) + "\n", encoding="utf-8")


def verify(
    manifest_path: str | os.PathLike[str],
    envelope_path: str | os.PathLike[str],
    public_key_path: str | os.PathLike[str],
) -> dict[str, Any]:
    """Return the signed statement, if it was signed with that key and is of this manifest.

    Args:
        manifest_path: the manifest.
        envelope_path: what `sign` wrote.
        public_key_path: the Ed25519 public key as PEM.

    Raises:
        UserError: the signature is of another key, or the envelope or the manifest was changed.
    """
    key = _public_key(public_key_path)
    payload, signatures = _open(envelope_path)
    try:
        for signature in signatures:
            try:
                key.verify(base64.b64decode(signature["sig"]), _encoded(PAYLOAD, payload))
                break
            except InvalidSignature:
                continue
        else:
            # The name of the key proves nothing; it shows which of two reasons is likelier.
            if fingerprint(key) in {signature.get("keyid") for signature in signatures}:
                raise UserError(
                    f"The envelope {str(envelope_path)!r} was changed after it was signed: its "
                    "signature does not fit what it says."
                )
            raise UserError(
                f"The envelope {str(envelope_path)!r} was not signed with the key "
                f"{str(public_key_path)!r}, but with another."
            )
        statement = json.loads(payload)
        kinds = statement["_type"], statement["predicateType"]
    except (KeyError, TypeError, ValueError) as error:
        raise _no_envelope(envelope_path) from error
    if kinds != (STATEMENT, PREDICATE):
        raise UserError(f"The envelope {str(envelope_path)!r} signs no manifest, but {kinds[1]!r}.")
    signed = {subject["name"]: subject["digest"]["sha256"] for subject in statement["subject"]}
    beside = _beside(manifest_path)
    for name in BESIDE:
        if signed.get(name) != beside.get(name):
            raise UserError(
                f"The file {name!r} is not the one that was signed: it was changed, taken away or "
                "made again since."
            )
    if statement != _statement(manifest_path, beside):
        raise UserError(
            f"The manifest {str(manifest_path)!r} is not the one that was signed: it was changed "
            "or made again since."
        )
    return statement


def fingerprint(key: Ed25519PublicKey) -> str:
    """Return the name of a public key: the sha256 of its DER form, 64 hexadecimal digits."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(serialization.Encoding.DER, form)).hexdigest()


def _beside(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the sha256 of what was made of a manifest, by name, as far as it is there."""
    folder = Path(path).parent
    places = {name: folder.joinpath(*PurePosixPath(name).parts[2:]) for name in BESIDE}
    return {name: store.sha256(place) for name, place in places.items() if place.is_file()}


def _statement(path: str | os.PathLike[str], beside: Mapping[str, str]) -> dict[str, Any]:
    found = manifest.read(path)
    files = {name: entry["sha256"] for name, entry in found["files"].items()} | dict(beside)
    return {
        "_type": STATEMENT,
        "subject": [
            {"name": name, "digest": {"sha256": sha256}} for name, sha256 in sorted(files.items())
        ],
        "predicateType": PREDICATE,
        "predicate": {
            "manifest": {"name": manifest.NAME, "sha256": store.sha256(path)},
            "root": manifest.root(found),
        },
    }


def _encoded(kind: str, payload: bytes) -> bytes:
    """Return what DSSE signs: its pre-authentication encoding of type and payload."""
    return b"DSSEv1 %d %s %d %s" % (len(kind.encode()), kind.encode(), len(payload), payload)


def _open(path: str | os.PathLike[str]) -> tuple[bytes, list[dict[str, Any]]]:
    try:
        envelope = json.loads(_bytes(path, "envelope"))
        payload = base64.b64decode(envelope["payload"], validate=True)
        kind, signatures = envelope["payloadType"], envelope["signatures"]
    except (KeyError, TypeError, ValueError) as error:
        raise _no_envelope(path) from error
    if kind != PAYLOAD or not isinstance(signatures, list):
        raise _no_envelope(path)
    return payload, signatures


def _no_envelope(path: str | os.PathLike[str]) -> UserError:
    return UserError(
        f"The file {str(path)!r} is no DSSE envelope with an in-toto statement, or was changed so "
        "that it can't be read."
    )


# Keys


def _private_key(path: str | os.PathLike[str]) -> Ed25519PrivateKey:
    data = _bytes(path, "private key")
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except TypeError as error:
        raise UserError(
            f"The private key {str(path)!r} is encrypted; one without a passphrase is needed."
        ) from error
    except Exception as error:  # of many kinds, by the form of what is no key
        raise UserError(
            f"The file {str(path)!r} is no private key in PEM form; an Ed25519 key is needed."
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _wrong_kind(path, key)
    return key


def _public_key(path: str | os.PathLike[str]) -> Ed25519PublicKey:
    data = _bytes(path, "public key")
    try:
        key = serialization.load_pem_public_key(data)
    except Exception as error:  # of many kinds, by the form of what is no key
        raise UserError(
            f"The file {str(path)!r} is no public key in PEM form; an Ed25519 key is needed."
        ) from error
    if not isinstance(key, Ed25519PublicKey):
        raise _wrong_kind(path, key)
    return key


def _wrong_kind(path: str | os.PathLike[str], key: object) -> UserError:
    kind = type(key).__name__.removesuffix("PrivateKey").removesuffix("PublicKey")
    return UserError(f"The key {str(path)!r} is of the kind {kind}; an Ed25519 key is needed.")


def _bytes(path: str | os.PathLike[str], kind: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"The {kind} {str(path)!r} can't be read: {error.strerror}.") from error


def _create(path: str | os.PathLike[str], data: bytes, mode: int) -> None:
    try:
        # Never readable by others, not even for a moment; an existing file is an error.
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as error:
        raise UserError(
            f"The file {str(path)!r} exists, and keys are never overwritten: name another."
        ) from error
    except OSError as error:
        raise UserError(f"The file {str(path)!r} can't be written: {error.strerror}.") from error
    with os.fdopen(file, "wb") as stream:
        stream.write(data)

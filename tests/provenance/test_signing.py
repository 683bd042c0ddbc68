import base64
import json
import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from test_manifest import TABLE, finished, project  # noqa: F401 (fixtures)

from bandlimit.errors import UserError
from bandlimit.files import store
from bandlimit.provenance import manifest, signing

PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8
ENVELOPE = "results/provenance/manifest.dsse.json"


@pytest.fixture
def signed(project):  # noqa: F811
    signing.generate("key.pem", "key.pub")
    signing.sign(manifest.NAME, "key.pem", ENVELOPE)
    return project


def verify(key="key.pub"):
    return signing.verify(manifest.NAME, ENVELOPE, key)


def edit(change, sign_with=None):
    """Change the statement in the envelope, and perhaps sign it again."""
    envelope = json.loads(Path(ENVELOPE).read_text())
    statement = json.loads(base64.b64decode(envelope["payload"]))
    change(statement)
    payload = json.dumps(statement).encode()
    envelope["payload"] = base64.b64encode(payload).decode()
    if sign_with:
        key = serialization.load_pem_private_key(Path(sign_with).read_bytes(), None)
        kind = envelope["payloadType"].encode()
        encoded = b" ".join(
            [b"DSSEv1", str(len(kind)).encode(), kind, str(len(payload)).encode(), payload]
        )
        envelope["signatures"][0]["sig"] = base64.b64encode(key.sign(encoded)).decode()
    Path(ENVELOPE).write_text(json.dumps(envelope))


def test_a_signed_manifest_verifies_with_the_public_key_alone(signed):
    os.unlink("key.pem")
    statement = verify()
    found = manifest.read(manifest.NAME)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    subjects = {s["name"]: s["digest"]["sha256"] for s in statement["subject"]}
    assert subjects == {name: entry["sha256"] for name, entry in found["files"].items()}
    assert statement["predicate"] == {
        "manifest": {"name": manifest.NAME, "sha256": store.sha256(manifest.NAME)},
        "root": found["root"],
    }


def test_the_signature_is_over_the_encoding_of_dsse(signed):
    """Verified here by hand, so that other tools of the format verify it too."""
    envelope = json.loads(Path(ENVELOPE).read_text())
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    payload = base64.b64decode(envelope["payload"])
    encoded = f"DSSEv1 28 application/vnd.in-toto+json {len(payload)} ".encode() + payload
    key = serialization.load_pem_public_key(Path("key.pub").read_bytes())
    [signature] = envelope["signatures"]
    key.verify(base64.b64decode(signature["sig"]), encoded)
    assert signature["keyid"] == signing.fingerprint(key)


def test_signing_twice_gives_equal_bytes(signed):
    before = Path(ENVELOPE).read_bytes()
    signing.sign(manifest.NAME, "key.pem", ENVELOPE)
    assert Path(ENVELOPE).read_bytes() == before


def test_the_private_key_is_for_its_owner_alone(signed):
    assert stat.S_IMODE(os.stat("key.pem").st_mode) == 0o600
    assert b"PRIVATE" not in Path("key.pub").read_bytes()


@pytest.mark.parametrize("existing", ["new.pem", "new.pub"])
def test_keys_are_never_overwritten(signed, existing):
    Path(existing).write_text("mine")
    with pytest.raises(UserError, match=f"'{existing}' exists"):
        signing.generate("new.pem", "new.pub")
    assert Path(existing).read_text() == "mine"
    assert not Path("new.pub" if existing == "new.pem" else "new.pem").exists()


def test_a_key_in_a_missing_folder_is_told(signed):
    with pytest.raises(UserError, match="can't be written: No such file"):
        signing.generate("none/key.pem", "key2.pub")


def put_key(path, key, encryption=None):
    encryption = encryption or serialization.NoEncryption()
    Path(path).write_bytes(key.private_bytes(PEM, PKCS8, encryption))


def test_keys_that_can_not_sign_are_told(signed):
    put_key("rsa.pem", rsa.generate_private_key(65537, 2048))
    secret = serialization.BestAvailableEncryption(b"secret")
    put_key("secret.pem", ed25519.Ed25519PrivateKey.generate(), secret)
    Path("text.pem").write_text("no key")
    for path, text in {
        "none.pem": "can't be read: No such file",
        "rsa.pem": "is of the kind RSA; an Ed25519 key",
        "secret.pem": "is encrypted",
        "text.pem": "is no private key in PEM form",
        "key.pub": "is no private key in PEM form",
    }.items():
        with pytest.raises(UserError, match=text) as error:
            signing.sign(manifest.NAME, path, "other.json")
        assert path in str(error.value)
        assert not Path("other.json").exists()


def test_keys_that_can_not_verify_are_told(signed):
    key = rsa.generate_private_key(65537, 2048).public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    Path("rsa.pub").write_bytes(key.public_bytes(PEM, form))
    for path, text in {
        "none.pub": "can't be read: No such file",
        "rsa.pub": "is of the kind RSA",
        "key.pem": "is no public key in PEM form",
    }.items():
        with pytest.raises(UserError, match=text):
            verify(path)


def test_a_signature_of_another_key_is_told(signed):
    signing.generate("other.pem", "other.pub")
    with pytest.raises(UserError, match="was not signed with the key 'other.pub'"):
        verify("other.pub")


def test_a_changed_manifest_is_told(signed):
    text = Path(manifest.NAME).read_text()
    Path(manifest.NAME).write_text(text + "\n")
    with pytest.raises(UserError, match="is not the one that was signed"):
        verify()


def test_a_manifest_made_again_is_told(signed):
    signed.attack(epsilon=0.25)
    signed.table()
    signed.manifest()
    with pytest.raises(UserError, match="is not the one that was signed"):
        verify()


def test_a_changed_statement_is_told(signed):
    edit(lambda statement: statement["subject"].pop())
    with pytest.raises(UserError, match="was changed after it was signed"):
        verify()


def test_a_manifest_that_was_changed_is_not_signed(signed):
    text = Path(manifest.NAME).read_text()
    Path(manifest.NAME).write_text(text.replace('"bytes": ', '"bytes": 1', 1))
    with pytest.raises(UserError, match="can't be signed: what it holds was changed"):
        signing.sign(manifest.NAME, "key.pem", "other.json")
    assert not Path("other.json").exists()


def test_a_statement_that_names_other_files_than_the_manifest_is_told(signed):
    edit(lambda statement: statement["subject"].pop(), sign_with="key.pem")
    with pytest.raises(UserError, match="is not the one that was signed"):
        verify()


def test_a_statement_on_something_else_is_told(signed):
    edit(lambda statement: statement.update(predicateType="urn:other"), sign_with="key.pem")
    with pytest.raises(UserError, match="signs no manifest, but 'urn:other'"):
        verify()


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"payload": "?", "payloadType": "", "signatures": []}'],
)
def test_what_is_no_envelope_is_told(signed, text):
    Path(ENVELOPE).write_text(text)
    with pytest.raises(UserError, match="is no DSSE envelope"):
        verify()


@pytest.mark.parametrize("field", ["payload", "payloadType", "sig", "keyid"])
def test_no_byte_of_the_envelope_can_be_changed_unseen(signed, field):
    envelope = json.loads(Path(ENVELOPE).read_text())
    place = envelope if field in envelope else envelope["signatures"][0]
    value = place[field]
    place[field] = ("B" if value[0] == "A" else "A") + value[1:]
    Path(ENVELOPE).write_text(json.dumps(envelope))
    if field == "keyid":  # a hint that is trusted by nobody
        assert verify()
    else:
        with pytest.raises(UserError):
            verify()


def test_a_signed_run_still_shows_a_changed_file(signed):
    data = Path(TABLE).read_bytes()
    Path(TABLE).write_bytes(data[:-1] + b"x")
    assert verify()
    assert signed.wrong() == {TABLE: manifest.Verdict.TAMPERED}


@pytest.mark.parametrize("name", signing.BESIDE)
@pytest.mark.parametrize("change", ["edited", "gone", "new"])
def test_a_changed_research_object_is_told(project, name, change):  # noqa: F811
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    if change != "new":
        path.write_bytes(b"a")
    signing.generate("key.pem", "key.pub")
    signing.sign(manifest.NAME, "key.pem", ENVELOPE)
    assert verify()
    if change == "gone":
        path.unlink()
    else:
        path.write_bytes(b"b")
    with pytest.raises(UserError, match=f"'{name}' is not the one that was signed"):
        verify()

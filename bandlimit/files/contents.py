"""Any file of the results: the certificate it carries, and a digest of what it holds besides.

What a file is shows by its content, never by its name, so that a picture that was renamed and sent
around is still recognised. The digest is of what a file means, not of how it is encoded: decoded
columns of Parquet, tensors and metadata of safetensors, pixels of PNG; of all others, their text
or bytes without the certificate. A text that a desktop program saved with other ends of lines, or
with a byte order mark, means the same. Needs neither torch nor matplotlib.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from bandlimit.errors import UserError
from bandlimit.files import certificates, store

LARGEST = 1 << 28
"""Bytes beyond which a file is no text, PDF or SVG of a rule, but something like an archive."""

_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    KeyError,
    TypeError,
    RecursionError,
    struct.error,
)


def certificate(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Return the certificate of a file of any kind, or None where it carries none.

    Raises:
        UserError: the file is missing, or damaged so that its certificate can't be read.
    """
    return _read(path, digest=False)[0]


def digest(path: str | os.PathLike[str]) -> str:
    """Return the digest of what a file holds besides its certificate, as 64 hexadecimal digits.

    Raises:
        UserError: the file is missing or damaged.
    """
    found = _read(path, digest=True)[1]
    assert found is not None
    return found


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any] | None, str]:
    """Return the certificate of a file (or None) and the digest of what it holds besides.

    Raises:
        UserError: the file is missing or damaged.
    """
    found, content = _read(path, digest=True)
    assert content is not None
    return found, content


def fault(path: str | os.PathLike[str]) -> str | None:
    """Return how a file differs from what its own certificate says, or None.

    A file without a certificate has nothing to differ from.
    """
    return examine(path)[0]


def examine(path: str | os.PathLike[str]) -> tuple[str | None, str | None]:
    """Return what `fault` does, and the digest of what the file holds, None where it is damaged."""
    try:
        found, content = read(path)
    except UserError as error:
        return str(error), None
    return (None if found is None else disagreement(found, content)), content


def disagreement(found: Mapping[str, Any], content: str | None) -> str | None:
    """Return how a certificate disagrees with itself, or with content of a digest, or None."""
    if found.get("format") != certificates.FORMAT:
        return f"its certificate has format {found.get('format')!r}, not {certificates.FORMAT}"
    if found.get("seal") != certificates.seal(found):
        return "its certificate was changed: the seal does not fit"
    if found.get("content") != content:
        return "what it holds was changed: the digest in its certificate is of other content"
    return None


BOM = b"\xef\xbb\xbf"
"""The byte order mark of UTF-8, with which some programs begin a text."""


def habits(path: str | os.PathLike[str], sha256: str | None = None) -> str | None:
    """Return how a text of the results is encoded otherwise than rules do, or None.

    Args:
        path: a file; of anything but a text with a certificate, nothing is said.
        sha256: of the file as it was written, where that is known: what became of it must be that.

    Raises:
        UserError: the file can't be read.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(9)
            if head.startswith(_BINARY) or head[8:] == b"{" or os.path.getsize(path) > LARGEST:
                return None
            data = head + file.read()
    except OSError as error:
        raise UserError(f"The file {str(path)!r} can't be read: {error.strerror}.") from error
    plain = _as_written(data)
    if plain == data or sha256 not in (None, hashlib.sha256(plain).hexdigest()):
        return None
    try:
        if sha256 is None and certificates.find_text(data) is None:
            return None
    except ValueError:
        return None
    told = [
        "begins with a byte order mark" * data.startswith(BOM),
        "has the ends of lines of Windows" * (b"\r\n" in data),
    ]
    return f"it {' and '.join(filter(None, told))}, and says the same"


def _as_written(data: bytes) -> bytes:
    """Return a text as rules write it: lines end in a line feed, and no mark stands before them."""
    return data.removeprefix(BOM).replace(b"\r\n", b"\n")


def _read(
    path: str | os.PathLike[str], *, digest: bool
) -> tuple[dict[str, Any] | None, str | None]:
    try:
        with open(path, "rb") as file:
            head = file.read(9)
    except OSError as error:
        raise UserError(f"The file {str(path)!r} can't be read: {error.strerror}.") from error
    try:
        if head.startswith(b"PAR1"):
            return store.certificate(path), store.content(path) if digest else None
        if head.startswith(PNG):
            return _png(path, digest)
        if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < os.path.getsize(path):
            return _safetensors(path, digest)
        if os.path.getsize(path) > LARGEST:
            return None, store.sha256(path) if digest else None
        data = Path(path).read_bytes()
        found = _find(data)
        rest = data if found is None else found[1]
        if found is not None and not data.startswith(b"%PDF"):
            rest = _as_written(rest)
        return found and found[0], hashlib.sha256(rest).hexdigest() if digest else None
    # OSError, SyntaxError, bombs and struct.error by Pillow, ValueError and RecursionError by JSON,
    # KeyError by safetensors, TypeError by columns of which no rule writes any.
    except (*_DAMAGE, Image.DecompressionBombError) as error:
        raise UserError(
            f"The file {str(path)!r} can't be read, or its certificate can't ({error}): it is "
            "damaged or was changed."
        ) from error


def _find(data: bytes) -> tuple[dict[str, Any], bytes] | None:
    return _find_pdf(data) if data.startswith(b"%PDF") else certificates.find_text(data)


# Writing


def fill(data: bytes, certificate: Mapping[str, Any], path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a text, PDF or SVG with its certificate in the place of a blank one.

    Args:
        data: the file with `certificates.blank(certificate, path)` in it.
        certificate: what the job says of all its outputs.
        path: the file that the bytes are for.
    """
    found = _find(data)
    assert found is not None
    proof = certificates.sealed(certificate, path, hashlib.sha256(found[1]).hexdigest())
    for name in ("content", "seal"):
        data = data.replace(
            f'"{name}":"{found[0][name]}"'.encode(), f'"{name}":"{proof[name]}"'.encode()
        )
    return data


def write_text(
    path: str | os.PathLike[str], text: str, certificate: Mapping[str, Any], comment: str
) -> None:
    """Write a text with its certificate in a comment, atomically.

    Args:
        path: the file to write.
        text: what it says, with `{proof}` once, where the comment goes.
        certificate: what the job says of all its outputs.
        comment: how the format writes a comment, with `{}` for what it says: '<!-- {} -->'.
    """
    before, _, after = text.partition("{proof}")
    assert certificates.MARK not in before  # as a reader takes the first
    start, end = comment.split("{}")
    before, after = f"{before}{start}{certificates.MARK} ", f"{end}{after}"
    content = hashlib.sha256((before + after).encode()).hexdigest()
    blank = certificates.as_text(certificates.blank(certificate, path))
    with store.atomic(path) as temporary:
        temporary.write_bytes((before + certificates.filled(blank, content) + after).encode())


# PNG

PNG = b"\x89PNG\r\n\x1a\n"
_PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_BINARY = (PNG, b"PAR1", b"%PDF")


def pixels(image: Image.Image) -> str:
    """Return the digest of a picture's size and of its pixels as they are seen."""
    if image.mode in ("1", "L", "LA", "P", "RGB"):
        image = image.convert("RGBA")
    return hashlib.sha256(f"{image.mode} {image.size}".encode() + image.tobytes()).hexdigest()


def _png(path: str | os.PathLike[str], digest: bool) -> tuple[dict[str, Any] | None, str | None]:
    text = _png_text(path)
    found = None if text is None else _mapping(text)
    if not digest:
        return found, None
    with Image.open(path, formats=["PNG"]) as image:
        return found, pixels(image)


def _png_text(path: str | os.PathLike[str]) -> str | None:
    """Return the text of a PNG under the key of certificates; no pixel is decoded."""
    with open(path, "rb") as file:
        file.seek(len(PNG))
        with PngImagePlugin.PngStream(file) as stream:
            # Text may stand behind the pixels.
            while (chunk := stream.read())[0] != b"IEND":
                kind, _, length = chunk
                if kind in _PNG_TEXTS:
                    stream.crc(kind, stream.call(*chunk))
                else:
                    file.seek(length + 4, os.SEEK_CUR)
            return stream.im_text.get(certificates.KEY)


def _mapping(text: str) -> dict[str, Any]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("its certificate is no mapping")
    return found


def with_png_text(drawn: bytes, text: str) -> bytes:
    """Return the bytes of a PNG with a certificate as a text chunk; no pixel is encoded anew."""
    # Behind the signature (8 bytes) and the header (25 bytes).
    body = b"tEXt" + certificates.KEY.encode() + b"\0" + text.encode("ascii")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return drawn[:33] + chunk + drawn[33:]


# PDF


def _find_pdf(data: bytes) -> tuple[dict[str, Any], bytes] | None:
    """Return the certificate in a PDF's document information, and the file's bytes without it.

    matplotlib writes that dictionary uncompressed, and ASCII text as a string in parentheses, with
    a backslash before each parenthesis and backslash of its own. The newest counts where the file
    was updated.
    """
    pattern = rb"/Keywords\s*\(" + re.escape(certificates.MARK.encode())
    found = list(re.finditer(pattern + rb"((?:\\.|[^\\()])*)\)", data, re.DOTALL))
    if not found:
        return None
    start, end = found[-1].span(1)
    text = re.sub(rb"\\(.)", rb"\1", data[start:end], flags=re.DOTALL)
    # The table of the places of objects depends on how long the certificate is.
    rest = data[:start] + data[end:]
    table = rest.rfind(b"\nxref")
    places = re.compile(rb"\b\d{10} \d{5} [fn]\b|(?<=startxref\n)\d+")
    rest = rest[:table] + places.sub(b"", rest[table:]) if table >= 0 else rest
    return _mapping(text.decode("ascii")), rest


# safetensors


def _safetensors(
    path: str | os.PathLike[str], digest: bool
) -> tuple[dict[str, Any] | None, str | None]:
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        metadata = header.pop("__metadata__", {})
        text = metadata.pop(certificates.KEY, None)
        found = None if text is None else _mapping(text)
        if not digest:
            return found, None
        whole = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
        for name, tensor in sorted(header.items()):
            whole.update(json.dumps([name, tensor["dtype"], tensor["shape"]]).encode())
            start, end = tensor["data_offsets"]
            file.seek(8 + length + start)
            whole.update(file.read(end - start))
        return found, whole.hexdigest()

"""Files from elsewhere: fetched from the first mirror with the right bytes, unpacked safely."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from lzma import LZMAError
from pathlib import Path, PurePosixPath, PureWindowsPath

import pooch

from bandlimit import store
from bandlimit.errors import UserError

_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    LZMAError,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
)
"""What the readers of archives raise at a file that is cut short, damaged or encrypted."""


def is_html(path: str | os.PathLike[str]) -> bool:
    """Return whether a file begins like a page of HTML (or XML): with '<', after any blanks."""
    with open(path, "rb") as file:
        return file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")


def verify(path: str | os.PathLike[str], sha256: str) -> None:
    """Check a file against its sha256: 64 hexadecimal digits, or the first 8 of them.

    Raises:
        UserError: the file is missing or has another sha256 (both are named), or `sha256` is none.
    """
    _check_digits(sha256)
    if not Path(path).is_file():
        raise UserError(f"The file {str(path)!r} does not exist.")
    problem = _mismatch(path, sha256)
    if problem is not None:
        raise UserError(f"The file {str(path)!r} is not the one that was expected: {problem}.")


def fetch(
    urls: Sequence[str],
    sha256: str | None,
    path: str | os.PathLike[str],
    *,
    retries: int = 2,
    timeout: float = 30.0,
    progress: bool = False,
) -> Path:
    """Download a file from the first of its mirrors that sends the right bytes; return its path.

    What does not match is deleted and the next mirror is tried, and the file appears at `path`
    whole or not at all. A file that is there already with the right sha256 is not fetched again.

    Args:
        urls: http or https addresses, in order of preference.
        sha256: 64 hexadecimal digits, or the first 8 where no more is known; None checks only that
            no page of HTML came.
        path: where the file goes.
        retries: how often a mirror is tried again after a failed connection or answer.
        timeout: seconds without a byte after which a connection counts as failed.
        progress: show a bar (needs the package tqdm).

    Raises:
        UserError: no mirror sent the right file (the sentence tells what each of them did), there
            is no mirror, `sha256` is none, or the folder can't be written.
    """
    path = Path(path)
    if sha256 is not None:
        _check_digits(sha256)
    if path.is_file() and _mismatch(path, sha256) is None:
        return path
    if not urls:
        raise UserError(f"The file {str(path)!r} is missing and no URL to fetch it from is known.")
    failures = []
    with store.atomic(path) as temporary:
        for url in urls:
            temporary.unlink(missing_ok=True)
            problem = _download(url, temporary, retries, timeout, progress)
            problem = problem or _mismatch(temporary, sha256)
            if problem is None:
                break
            failures.append(f"{url}: {problem}")
        else:
            raise UserError(
                f"The file {str(path)!r} can't be fetched from any of its {len(urls)} URL(s): "
                + "; ".join(failures)
                + "."
            )
    return path


def extract(archive: str | os.PathLike[str], folder: str | os.PathLike[str]) -> Path:
    """Unpack a tar (plain, gz, bz2, xz) or zip archive into a new folder, whole or not at all.

    Only plain files and folders inside the target are accepted: a data set needs no links, and
    a link is the usual way out of the folder.

    Raises:
        UserError: the archive is missing, damaged or of another format, a member of it would lie
            outside the folder or is a link or a device, or the folder is not empty or can't be
            written.
    """
    archive, folder = Path(archive), Path(folder)
    if not archive.is_file():
        raise UserError(f"The archive {str(archive)!r} does not exist.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"Can't unpack {str(archive)!r} into {str(folder)!r}: it must be an empty or a new "
            "folder."
        )
    temporary = folder.with_name(f".{folder.name[:80]}.{secrets.token_hex(6)}")
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise UserError(
            f"Can't write to the folder {str(folder.parent)!r}: {error.strerror}; "
            "a folder that can be written is needed."
        ) from error
    try:
        _unpack(archive, temporary)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _check_digits(sha256: str) -> None:
    if not re.fullmatch(r"[0-9a-f]{64}|[0-9a-f]{8}", sha256):
        raise UserError(
            "A sha256 is 64 hexadecimal digits in lower case, or the first 8 of them; "
            f"given: {sha256!r}."
        )


def _mismatch(path: str | os.PathLike[str], sha256: str | None) -> str | None:
    """Return what is wrong with a file, or None."""
    page = "the server sent an HTML page" if is_html(path) else None
    if sha256 is None:
        return page
    got = store.sha256(path)
    if got.startswith(sha256):
        return None
    text = f"its sha256 is {got}, expected {sha256}"
    return f"{text} ({page})" if page else text


def _download(url: str, path: Path, retries: int, timeout: float, progress: bool) -> str | None:
    """Download one URL to `path` with retries; return what went wrong, or None."""
    source = pooch.create(
        path=path.parent,
        base_url="",
        registry={path.name: None},  # the hash is checked here, since pooch knows no prefixes
        urls={path.name: url},
        retry_if_failed=retries,
    )
    downloader = pooch.HTTPDownloader(progressbar=progress, chunk_size=1 << 18, timeout=timeout)
    try:
        source.fetch(path.name, downloader=downloader)
    except (OSError, ValueError) as error:
        return (str(error) or type(error).__name__).splitlines()[0]
    return None


def _unpack(archive: Path, folder: Path) -> None:
    try:
        if tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tar:
                members = tar.getmembers()
                _refuse(
                    archive,
                    ((m.name, "" if m.isfile() or m.isdir() else _tar_kind(m)) for m in members),
                )
                tar.extractall(folder, members, filter="data")
        elif zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as pack:
                _refuse(archive, ((m.filename, _zip_kind(m)) for m in pack.infolist()))
                pack.extractall(folder)
        else:
            seen = "an HTML page" if is_html(archive) else "neither, or damaged"
            raise UserError(
                f"The archive {str(archive)!r} can't be unpacked: a tar or zip archive is needed, "
                f"and it is {seen}."
            )
    except _DAMAGED as error:
        raise UserError(
            f"The archive {str(archive)!r} can't be unpacked: {error or type(error).__name__}."
        ) from error


def _tar_kind(member: tarfile.TarInfo) -> str:
    return "a link" if member.issym() or member.islnk() else "a device or another special file"


def _zip_kind(member: zipfile.ZipInfo) -> str:
    """Return what a member is if neither file nor folder; zip keeps the Unix mode up there."""
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind in (0, stat.S_IFREG, stat.S_IFDIR):
        return ""
    return "a link" if kind == stat.S_IFLNK else "a device or another special file"


def _refuse(archive: Path, members: Iterable[tuple[str, str]]) -> None:
    """Raise at the first member that is of a wrong kind or whose name leads out of the folder.

    The standard library would strip such names and go on; an archive that has one is not the
    archive that was meant.
    """
    for name, kind in members:
        path, windows = PurePosixPath(name), PureWindowsPath(name)
        if kind:
            problem = f"is {kind}"
        elif path.is_absolute() or windows.drive or windows.root:
            problem = "has an absolute path"
        elif ".." in windows.parts:  # parts of both / and \
            problem = "leads out of the folder"
        else:
            continue
        raise UserError(
            f"The archive {str(archive)!r} is refused: its member {name!r} {problem}, and only "
            "plain files and folders inside the target are allowed."
        )

"""Files from elsewhere: fetched from the first mirror that has the right bytes."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pooch

from bandlimit.errors import UserError
from bandlimit.files import store


def is_html(path: str | os.PathLike[str]) -> bool:
    """Return whether a file begins like a page of HTML (or XML): with '<', after any blanks."""
    with open(path, "rb") as file:
        return file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")


def verify(path: str | os.PathLike[str], sha256: str) -> None:
    """Check a file against its sha256: 64 hexadecimal digits, or the first 8 of them.

    Raises:
        UserError: the file is missing or has another sha256 (both are named), or `sha256` is
            not one.
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
            is no mirror, `sha256` is not one, or the folder can't be written.
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
    """Download a URL to `path` with retries; return what went wrong, or None."""
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

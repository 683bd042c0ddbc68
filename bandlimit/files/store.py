"""Files of records: Parquet with page checksums, atomic writing, hashing.

A bit that flips in a Parquet file is read back silently unless checksums are both written and
verified, so this module does both and the rest of the library reads and writes only through it.
What a table holds, apart from how it is encoded, has a digest (`Content`), which each file carries
in its certificate.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bandlimit.errors import MachineError, UserError
from bandlimit.files import attempts, certificates

ROW_GROUP_BYTES = 8 << 20
"""Uncompressed size of a row group: small enough to stream, independent of the writer's batches."""

TAKEN_AT_ONCE = 1000
"""Rows among which some are looked for at a time."""


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed and takes the place of `path`.

    After an error the temporary file is gone and `path` is as it was. The temporary name keeps the
    suffix, since writers of pictures go by it.

    Raises:
        UserError: the folder can't be written.
        MachineError: its disk is full.
        attempts.Superseded: a newer attempt at the same job has begun; `path` is as it was.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem[:80]}.{secrets.token_hex(6)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
    except OSError as error:
        if is_full(error):
            raise full(path.parent) from error
        raise MachineError(
            f"Can't write to the folder {str(path.parent)!r}: {error.strerror}; "
            "a folder that can be written is needed."
        ) from error
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        with attempts.newest():
            os.replace(temporary, path)
    except Exception as error:
        if is_full(error):
            raise full(path.parent) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def remove_halves(path: str | os.PathLike[str]) -> None:
    """Remove the temporary files beside `path` of attempts that were killed while they wrote it."""
    path = Path(path)
    name = re.compile(rf"\.{re.escape(path.stem[:80])}\.[0-9a-f]{{12}}{re.escape(path.suffix)}")
    with suppress(OSError):
        for other in os.scandir(path.parent):
            if name.fullmatch(other.name) and other.is_file(follow_symlinks=False):
                os.unlink(other)


def is_full(error: BaseException) -> bool:
    """Return whether something failed for want of room on a disk; not all writers keep its number.

    >>> is_full(OSError(28, "No space left on device"))
    True
    """
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or any(
        os.strerror(number) in str(error) for number in (errno.ENOSPC, errno.EDQUOT)
    )


def full(folder: str | os.PathLike[str]) -> MachineError:
    """Return the error for a disk, or a quota, without room."""
    return MachineError(
        f"The disk of {os.fspath(folder)!r} is full: make room and run again; what is finished is "
        "kept, and nothing is left half-made."
    )


def sha256(path: str | os.PathLike[str]) -> str:
    """Return the sha256 of a file as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def image_column(images: np.ndarray) -> pa.Array:
    """Return images (N x C x H x W, uint8 or float32) as an Arrow column of fixed-shape tensors."""
    # Built from flat storage: from_numpy_ndarray would read an axis order out of the strides.
    kind = image_type(images.shape[1:], str(images.dtype))
    flat = pa.array(np.ascontiguousarray(images).reshape(-1), type=kind.value_type)
    size = int(np.prod(images.shape[1:]))
    return pa.ExtensionArray.from_storage(kind, pa.FixedSizeListArray.from_arrays(flat, size))


def image_type(shape: Sequence[int], dtype: str) -> pa.DataType:
    """Return the Arrow type of images of one shape (C, H, W); dtype is 'uint8' or 'float32'."""
    return pa.fixed_shape_tensor(getattr(pa, dtype)(), tuple(shape))


def images_of(table: pa.Table, column: str = "image") -> np.ndarray:
    """Return the images of a table as an array, N x C x H x W, in the stored type."""
    chunks = table.column(column).combine_chunks()
    if isinstance(chunks, pa.ChunkedArray):
        chunks = pa.concat_arrays(chunks.chunks)
    return chunks.to_numpy_ndarray()


class TableWriter:
    """Write a Parquet file in parts, whole or not at all.

    Row groups are cut where a row would take them beyond `ROW_GROUP_BYTES`, so equal rows give
    equal bytes however they arrive, and long lists take no more memory than other rows. Use as a
    context manager; after an exception no file appears.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        schema: pa.Schema,
        certificate: Mapping[str, Any] | None = None,
    ) -> None:
        # A table that was read bears the certificate of its file.
        kept = {k: v for k, v in (schema.metadata or {}).items() if k != certificates.KEY.encode()}
        schema = schema.with_metadata(kept or None)
        self.schema = schema
        self._certificate = certificate
        self._content = Content(schema)
        self._path = path
        self._pending: list[pa.Table] = []
        self._waiting = 0
        """Bytes of what is pending, about."""

    def __enter__(self) -> TableWriter:
        self._place = atomic(self._path)
        temporary = self._place.__enter__()
        try:
            self._writer = pq.ParquetWriter(
                temporary,
                self.schema,
                compression="zstd",
                write_page_checksum=True,
                store_schema=True,
            )
        except BaseException:
            self._place.__exit__(*sys.exc_info())
            raise
        return self

    def write(self, table: pa.Table) -> None:
        """Add rows; columns must be those of the schema, in any order.

        Raises:
            KeyError: a column is missing.
            pyarrow.ArrowInvalid: a column has another type.
        """
        table = table.select(self.schema.names).cast(self.schema)
        self._content.update(table)
        self._pending.append(table)
        self._waiting += int(_row_sizes(table).sum())
        if self._waiting > ROW_GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        """Write the groups that are full; the rows of the last one wait for more."""
        table = pa.concat_tables(self._pending)
        ends = np.cumsum(_row_sizes(table))
        start, before = 0, 0
        while ends[-1] - before > ROW_GROUP_BYTES:
            # A row that is larger than a group has one of its own.
            stop = max(start + 1, int(np.searchsorted(ends, before + ROW_GROUP_BYTES, "right")))
            if stop == len(table):
                break
            self._writer.write_table(table.slice(start, stop - start))
            start, before = stop, int(ends[stop - 1])
        self._pending, self._waiting = [table.slice(start)], int(ends[-1]) - before

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        try:
            with self._writer:
                if kind is None:
                    self._finish()
        except BaseException:
            # What it could not write to the end is gone before anyone hears of it.
            self._place.__exit__(*sys.exc_info())
            raise
        return self._place.__exit__(kind, error, trace)

    def _finish(self) -> None:
        if self._pending and len(rest := pa.concat_tables(self._pending)):
            self._writer.write_table(rest)
        if self._certificate is not None:
            proof = certificates.sealed(self._certificate, self._path, self._content.hexdigest())
            self._writer.add_key_value_metadata({certificates.KEY: certificates.as_text(proof)})


def _row_bytes(schema: pa.Schema) -> int:
    """Return about how many bytes a row takes, without the values of lists of any length."""
    return sum(_bytes(field.type) if _is_fixed(field.type) else 16 for field in schema) or 1


def _row_sizes(table: pa.Table) -> NDArray[np.int64]:
    """Return about how many bytes each row takes."""
    sizes = np.full(len(table), _row_bytes(table.schema))
    for field, column in zip(table.schema, table.columns, strict=True):
        if pa.types.is_list(field.type) or pa.types.is_large_list(field.type):
            lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
            sizes += lengths * _bytes(field.type.value_type)
    return sizes


def _is_fixed(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.FixedShapeTensorType) or pa.types.is_fixed_size_list(kind)


def _bytes(kind: pa.DataType) -> int:
    """Return about how many bytes a value of a type takes."""
    if isinstance(kind, pa.FixedShapeTensorType):
        return int(np.prod(kind.shape)) * _bytes(kind.value_type)
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size) * _bytes(kind.value_type)
    return max(1, int(kind.bit_width) // 8) if pa.types.is_primitive(kind) else 16


def write(
    path: str | os.PathLike[str], table: pa.Table, certificate: Mapping[str, Any] | None = None
) -> None:
    """Write a table as a Parquet file, atomically."""
    with TableWriter(path, table.schema, certificate) as writer:
        writer.write(table)


def read(path: str | os.PathLike[str], columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet file, verifying the checksum of each page.

    Raises:
        UserError: the file is missing, no Parquet or damaged, or a column is missing.
    """
    with _readable(path, columns) as file:
        return file.read(columns=None if columns is None else list(columns))


def schema(path: str | os.PathLike[str]) -> pa.Schema:
    """Return the names and types of the columns of a Parquet file.

    Raises:
        UserError: the file is missing, no Parquet, or damaged.
    """
    with _readable(path, None) as file:
        return file.schema_arrow


def columns(path: str | os.PathLike[str]) -> list[str]:
    """Return the names of the columns of a Parquet file.

    Raises:
        UserError: the file is missing, no Parquet, or damaged.
    """
    return list(schema(path).names)


def image_shape(path: str | os.PathLike[str]) -> tuple[int, ...]:
    """Return the shape (C, H, W) of the images in a Parquet file.

    Raises:
        UserError: the file is missing, no Parquet, damaged, or has no images.
    """
    with _readable(path, ["image"]) as file:
        return tuple(file.schema_arrow.field("image").type.shape)


def batches(
    path: str | os.PathLike[str], size: int, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """Yield the rows of a Parquet file in order, `size` at a time (the last may be fewer).

    Raises:
        UserError: the file is missing, no Parquet or damaged, or a column is missing.
    """
    with _readable(path, columns) as file:
        for batch in file.iter_batches(
            batch_size=size, columns=None if columns is None else list(columns)
        ):
            yield pa.Table.from_batches([batch])


def groups(path: str | os.PathLike[str]) -> Iterator[pa.Table]:
    """Yield the rows of a Parquet file in order, of no more than a row group at a time.

    Raises:
        UserError: the file is missing, no Parquet, or damaged.
    """
    with _readable(path, None) as file:
        yield from _groups(file)


def _groups(file: pq.ParquetFile) -> Iterator[pa.Table]:
    rows = max(1, ROW_GROUP_BYTES // _row_bytes(file.schema_arrow))
    # Group by group, since a batch may begin in one and end in the next.
    for group in range(file.num_row_groups):
        for batch in file.iter_batches(batch_size=rows, row_groups=[group]):
            yield pa.Table.from_batches([batch])


def take(
    path: str | os.PathLike[str],
    rows: Sequence[int] | NDArray[np.int64],
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """Return some rows of a Parquet file, in the order that is asked for.

    Memory is that of these rows and of a few others at a time, not of the file.

    Args:
        path: the file.
        rows: their numbers, in any order, of which one may come again.
        columns: that are read; all by default.

    Raises:
        UserError: the file is missing, no Parquet or damaged, or a column is missing.
        IndexError: it has fewer rows.
    """
    asked = np.asarray(rows, dtype=np.int64)
    wanted, places = np.unique(asked, return_inverse=True)
    parts, start = [], 0
    for batch in batches(path, TAKEN_AT_ONCE, columns):
        first, last = np.searchsorted(wanted, [start, start + len(batch)])
        if last > first:
            parts.append(batch.take(wanted[first:last] - start))
        start += len(batch)
    if len(wanted) and (wanted[0] < 0 or wanted[-1] >= start):
        raise IndexError(f"rows of {str(path)!r} are 0 to {start - 1}, got {asked.tolist()[:9]}")
    if not parts:
        return read(path, columns).slice(0, 0)
    return pa.concat_tables(parts).take(places)


def certificate(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Return the certificate that a Parquet file carries, or None."""
    with _readable(path, None) as file:
        text = (file.metadata.metadata or {}).get(certificates.KEY.encode())
    return None if text is None else json.loads(text)


def content(path: str | os.PathLike[str]) -> str:
    """Return the digest of what a Parquet file holds (see `Content`), its checksums verified.

    Raises:
        UserError: the file is missing, no Parquet, or damaged.
    """
    with _readable(path, None) as file:
        digest = Content(file.schema_arrow)
        for table in _groups(file):
            digest.update(table)
    return digest.hexdigest()


class Content:
    """Digest of a table's columns: names, types, values and which of them are missing.

    Equal tables have equal digests, however they are cut, compressed, encoded, or whether their
    texts have long offsets. Metadata does not count. Rows come in parts, in order.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._columns = [[field.name, _type_name(field.type)] for field in schema]
        self._parts: dict[str, Any] = {}
        self._rows = 0

    def update(self, table: pa.Table) -> None:
        """Take in more rows, with the columns of the schema."""
        self._rows += len(table)
        for number, (name, _) in enumerate(self._columns):
            for chunk in table.column(name).chunks:
                self._feed(f"{number:04}", chunk)

    def hexdigest(self) -> str:
        """Return the digest of all rows so far, as 64 hexadecimal digits."""
        parts = {name: part.hexdigest() for name, part in sorted(self._parts.items())}
        whole = json.dumps([self._columns, self._rows, parts])
        return hashlib.sha256(whole.encode()).hexdigest()

    def _add(self, name: str, values: Any) -> None:
        self._parts.setdefault(name, hashlib.sha256()).update(memoryview(values).cast("B"))

    def _feed(self, name: str, array: pa.Array) -> None:
        """Take in an array: what is missing, then of the rest lengths and values apart."""
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        if not len(array):
            return
        self._add(f"{name} valid", array.is_valid().to_numpy(zero_copy_only=False).astype(np.uint8))
        kind = array.type
        array = array.drop_null()
        if pa.types.is_struct(kind):
            for i, part in enumerate(array.flatten()):
                self._feed(f"{name}.{i}", part)
        elif pa.types.is_fixed_size_list(kind):
            self._feed(f"{name}.", array.flatten())
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
            lengths = pc.list_value_length(array).to_numpy(zero_copy_only=False)
            self._add(f"{name} length", lengths.astype(np.int64))
            self._feed(f"{name}.", array.flatten())
        elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
            self._text(name, array.cast(pa.large_string()))
        elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            self._text(name, array.cast(pa.large_binary()))
        elif pa.types.is_boolean(kind):
            self._add(name, array.to_numpy(zero_copy_only=False).astype(np.uint8))
        elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
            self._add(name, np.ascontiguousarray(array.to_numpy(zero_copy_only=False)))
        elif not pa.types.is_null(kind):
            raise TypeError(f"no digest is defined for columns of {kind}")

    def _text(self, name: str, array: pa.Array) -> None:
        if not len(array):
            return
        _, ends, data = array.buffers()
        places = np.frombuffer(ends, np.int64)[array.offset : array.offset + len(array) + 1]
        self._add(f"{name} length", np.diff(places))
        if places[-1] > places[0]:
            self._add(name, memoryview(data)[places[0] : places[-1]])


def _type_name(kind: pa.DataType) -> str:
    """Return the name of a type in a digest, the same in all versions of pyarrow."""
    if isinstance(kind, pa.FixedShapeTensorType):
        return f"tensor {kind.value_type} {list(kind.shape)}"
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"list {_type_name(kind.value_type)}"
    # Its text names the values, which a file calls otherwise than a table in memory does.
    if pa.types.is_fixed_size_list(kind):
        return f"list of {kind.list_size} {_type_name(kind.value_type)}"
    if pa.types.is_struct(kind):
        return f"struct {[[field.name, _type_name(field.type)] for field in kind]}"
    return str(kind).replace("large_", "")


@contextmanager
def _readable(
    path: str | os.PathLike[str], columns: Sequence[str] | None
) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            if columns is not None:
                for name in columns:
                    # A field of a struct is named with it, as 'image.path'.
                    if name.split(".")[0] not in file.schema_arrow.names:
                        raise UserError(
                            f"The file {str(path)!r} has no column {name!r}; "
                            f"it has {', '.join(file.schema_arrow.names)}."
                        )
            yield file
    except FileNotFoundError as error:
        raise UserError(f"The file {str(path)!r} does not exist.") from error
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"The file {str(path)!r} can't be read as Parquet ({str(error).splitlines()[0]}); "
            f"it is damaged or of another format{_way_out(path)}."
        ) from error


def _way_out(path: str | os.PathLike[str]) -> str:
    """Return what helps against damage: a file that the workflow made is made again.

    Rules name their outputs relative to the working folder. Any other file may be the user's own,
    of which there may be no copy.
    """
    ours = Path(os.path.normpath(path)).parts[0] == "results"
    return ": delete it, and it is made anew" if ours else ", where a whole Parquet file is needed"

"""Spectral records: rows, types, and what is read of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import plain_spectra as plain
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.fft
import torch

from bandlimit.spectral import fourier, records
from bandlimit.spectral.shells import lfc_ratio, per_shell, radial_profile, ring_means, shells

IDS = ["a", "b", "c", "d"]


def batch(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    x, d = plain.images(4, 3, 12, 9, dtype=dtype), plain.perturbations(4, 3, 12, 9, dtype=dtype)
    d[2] = 0
    return x, d


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_records_are_those_of_the_definition(dtype):
    x, d = batch(dtype)
    table = records.spectra(IDS, x, d)
    assert table.schema == records.schema((12, 9))
    assert table["image_id"].to_pylist() == IDS
    assert table["zero"].to_pylist() == [False, False, True, False]
    flat, pixels = d.double().numpy().reshape(4, -1), x.double().numpy()
    after, before = (
        scipy.fft.dctn(of, axes=(-2, -1), norm="ortho")
        for of in (pixels + d.double().numpy(), pixels)
    )
    expected = {
        "l2": np.linalg.norm(flat, axis=1),
        "linf": np.abs(flat).max(axis=1),
        "clean_l2": np.linalg.norm(pixels.reshape(4, -1), axis=1),
        "rct": (np.abs(after - before) / (np.abs(before) + plain.FLOOR)).mean(axis=(1, 2, 3)),
    }
    for name, values in expected.items():
        assert np.allclose(table[name].to_numpy(), values, rtol=1e-9, atol=1e-12), name
    magnitudes = np.abs(plain.spectrum(d))
    by_shell = {
        "energies": plain.by_shell(magnitudes**2),
        "clean_energies": plain.by_shell(np.abs(plain.spectrum(x)) ** 2),
        "magnitudes": plain.by_shell(magnitudes),
        "log_difference": plain.shell_means(plain.log_difference(x.double(), d.double())),
        "relative": plain.shell_means(plain.relative(x, d)),
    }
    for name, values in by_shell.items():
        assert np.allclose(per_shell(table, name), values, rtol=1e-9, atol=1e-12), name


def test_what_is_read_of_a_file_is_that_of_the_definition(tmp_path):
    x, d = batch()
    found = shells((12, 9))
    with pq.ParquetWriter(tmp_path / "spectra.parquet", records.schema((12, 9))) as writer:
        for part in (slice(0, 3), slice(3, 4)):
            writer.write_table(records.spectra(IDS[part], x[part], d[part]))
    table = pq.read_table(tmp_path / "spectra.parquet")
    power = np.abs(plain.spectrum(d)) ** 2
    energy = power.sum(axis=(1, 2, 3))
    ratio = lfc_ratio(per_shell(table, "energies"), found, 3)
    expected = (power * plain.disk((12, 9), 3)).sum(axis=(1, 2, 3))[energy > 0] / energy[energy > 0]
    assert np.allclose(ratio[energy > 0], expected) and np.isnan(ratio[2])
    profile = radial_profile(per_shell(table, "magnitudes"), found)
    magnitudes = np.sqrt(power)
    of_all = magnitudes.mean(axis=(1, 2, 3))[:, None]
    kept = [0, 1, 3]
    assert np.allclose(profile[kept], plain.ring_means(magnitudes)[kept] / of_all[kept])
    differences = plain.ring_means(plain.log_difference(x, d))
    assert np.allclose(ring_means(per_shell(table, "log_difference"), found), differences)


def test_a_column_is_read_from_a_part_of_a_table_and_of_none():
    table = records.spectra(IDS, *batch())
    assert np.array_equal(
        per_shell(table.slice(1, 2), "energies"), per_shell(table, "energies")[1:3]
    )
    count = len(shells((12, 9)).squared)
    assert per_shell(table.slice(0, 0), "energies").shape == (0, count)
    assert per_shell(records.schema((12, 9)).empty_table(), "energies").shape == (0, count)


def test_records_do_not_depend_on_the_batch():
    x, d = batch()
    apart = pa.concat_tables(
        records.spectra([i], x[k : k + 1], d[k : k + 1]) for k, i in enumerate(IDS)
    )
    whole = records.spectra(IDS, x, d)
    for name in ("energies", "clean_energies", "magnitudes", "log_difference", "relative"):
        assert np.array_equal(per_shell(apart, name), per_shell(whole, name))
    assert np.allclose(apart["rct"].to_numpy(), whole["rct"].to_numpy(), rtol=1e-12)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_records_do_not_depend_on_threads_and_leave_their_number(threads, monkeypatch):
    x, d = batch()
    whole = records.spectra(IDS, x, d)
    monkeypatch.setattr(records, "PIECE", 3 * 12 * 9)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        table = records.spectra(IDS, x, d)
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == threads
    finally:
        torch.set_num_threads(before)
    for name in ("energies", "clean_energies", "magnitudes", "log_difference", "relative"):
        assert np.array_equal(per_shell(table, name), per_shell(whole, name))
    assert np.allclose(table["rct"].to_numpy(), whole["rct"].to_numpy(), rtol=1e-12)
    assert table.drop_columns("rct").equals(whole.drop_columns("rct"))


@pytest.mark.parametrize("piece", [1, records.PIECE])
def test_records_fill_maps(piece, monkeypatch):
    monkeypatch.setattr(records, "PIECE", piece)
    x, d = batch(torch.float32)
    maps, expected = fourier.Maps((12, 9)), fourier.Maps((12, 9))
    records.spectra(IDS, x, d, maps)
    expected.add(fourier.bins(x.double(), d.double()))
    assert (maps.images, maps.zero) == (3, 1)
    for name, values in expected.means().items():
        assert torch.allclose(maps.means()[name], values, rtol=1e-12)


def test_an_image_without_an_id_is_refused():
    with pytest.raises(ValueError, match="3 ids of 4 images"):
        records.spectra(IDS[:3], *batch())


def test_images_of_8_bits_are_refused():
    x, d = batch()
    with pytest.raises(ValueError, match=r"torch\.uint8"):
        records.spectra(IDS, (x * 255).to(torch.uint8), d)


@pytest.mark.parametrize("sides", [(28, 28), (33, 31), (9, 10)])
def test_an_image_has_the_same_spectrum_in_every_batch(sides):
    """To the last digit, whatever the threads."""
    x = torch.rand((12, 3, *sides), generator=torch.Generator().manual_seed(0)).double()
    d = (torch.rand(x.shape, generator=torch.Generator().manual_seed(1)).double() - 0.5) / 10
    ids = [str(row) for row in range(12)]
    whole = records.spectra(ids, x, d).to_pylist()
    for size in (1, 5):
        parts = [
            row
            for start in range(0, 12, size)
            for row in records.spectra(
                ids[start : start + size], x[start : start + size], d[start : start + size]
            ).to_pylist()
        ]
        assert parts == whole

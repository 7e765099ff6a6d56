"""Values of a NIfTI file: once in memory, or plane by plane."""

import gzip
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from sarco.core.errors import InputError
from sarco.io.nifti import open_volume, read_label_map
from sarco.io.nifti_file import open_stored

SHAPE = (64, 60, 80)


def save(path: Path, values: np.ndarray, slope: float = 1.0) -> Path:
    """A file with a plain affine."""
    image = nib.Nifti1Image(values, np.diag([-2.0, -2.0, 3.0, 1.0]))
    image.header.set_slope_inter(slope, 0)
    nib.save(image, path)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("slope", [1.0, 0.5])
@pytest.mark.parametrize("kind", ["<i2", ">i2", "<f4"])
def test_planes_are_what_nibabel_reads(tmp_path: Path, name: str, slope: float, kind: str) -> None:
    """Catches a wrong offset, byte order or scaling."""
    values = (np.arange(np.prod(SHAPE)).reshape(SHAPE) % 3000 - 1000).astype(kind)
    path = save(tmp_path / name, values, slope)
    expected = np.asarray(nib.load(path).dataobj)
    volume = open_volume(path)
    assert volume.shape == (60, 64, 80)
    for plane in (0, 41, 79):
        np.testing.assert_array_equal(volume.read_plane(plane), expected[:, :, plane].T.astype(np.float32))


@pytest.mark.parametrize("slope", [1.0, 0.5])
def test_a_packed_volume_is_in_memory_once(tmp_path: Path, slope: float) -> None:
    """Catches copies while a volume is unpacked, scaled or turned: at 512 x 512 x 1000 each takes half a gigabyte."""
    values = np.random.default_rng(1).integers(-1000, 1000, (128, 128, 1500), dtype=np.int16)
    path = save(tmp_path / "a.nii.gz", values, slope)
    tracemalloc.start()
    volume = open_volume(path)
    volume.sample_planes()
    for plane in range(0, 1500, 50):
        volume.read_plane(plane)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert values.nbytes < peak < 1.15 * values.nbytes


def test_a_plain_volume_is_never_in_memory(tmp_path: Path) -> None:
    """Catches a plain file that is read whole for one plane."""
    path = save(tmp_path / "a.nii", np.zeros((256, 256, 200), np.int16) - 1000)
    tracemalloc.start()
    volume = open_volume(path)
    for plane in (0, 100, 199):
        volume.read_plane(plane)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4e6


def test_ids_of_a_byte_are_in_memory_once_and_counted_plane_by_plane(tmp_path: Path) -> None:
    """Catches a second copy of a label map, and one of eight bytes a voxel while its ids are counted."""
    values = np.zeros((128, 128, 1500), np.uint8)
    values[20:40, :, 7] = 3
    path = save(tmp_path / "a.nii.gz", values)
    tracemalloc.start()
    label_map = read_label_map(path)
    assert label_map.held == {0, 3} and not label_map.fault_of_255()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(label_map.ids, values.transpose(1, 0, 2))
    assert peak < 1.4 * values.nbytes


def test_float_labels_are_in_memory_once_as_they_are(tmp_path: Path) -> None:
    """Catches a label map of 64 bits that is held several times while it becomes one of 8."""
    values = np.zeros((128, 128, 100))
    values[20:40] = 0.9999
    path = save(tmp_path / "a.nii.gz", values)
    tracemalloc.start()
    ids = read_label_map(path).ids
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert set(np.unique(ids)) == {0, 1}
    assert peak < 1.4 * values.nbytes


@pytest.mark.parametrize("packed", [True, False])
def test_a_file_that_was_cut_is_named(tmp_path: Path, packed: bool) -> None:
    """Catches planes of zeros where a file ends too soon."""
    path = save(tmp_path / "whole.nii", np.random.default_rng(1).integers(-1000, 1000, SHAPE, dtype=np.int16))
    content = path.read_bytes()
    cut = tmp_path / "cut.nii.gz"
    cut.write_bytes(gzip.compress(content)[:-5000] if packed else content[:-5000])
    with pytest.raises(InputError, match=r"cut\.nii\.gz: cannot be read as NIfTI"):
        open_stored(cut, "image").read("image")

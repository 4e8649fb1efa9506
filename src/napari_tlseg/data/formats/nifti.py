"""NIfTI: voxels (i, j, k), held as (k, j, i)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.openers import Opener
from numpy.typing import NDArray

from napari_tlseg.data.case import Labels
from napari_tlseg.data.files import atomic_path
from napari_tlseg.data.formats.opened import NIFTI_SUFFIXES, Opened, Pixels, check_type, reading, suffix_of, too_deep
from napari_tlseg.data.geometry import Geometry
from napari_tlseg.errors import InputError

_MM = {1: 1e3, 3: 1e-3}
"""By the code of the unit: metre, micron. An unknown one is taken for mm, as everybody does."""


@contextmanager
def open_nifti(path: Path) -> Iterator[Opened]:
    image = nib.load(path, mmap=False)  # a mapped file cannot be replaced on Windows
    if not isinstance(image, nib.Nifti1Image):
        raise InputError("is not a NIfTI image", path, "convert it to NIfTI")
    check_type(path, image.get_data_dtype())
    yield Opened(geometry=_geometry(path, image), values=lambda: _values(image))


def _shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(i, j), or (i, j, k) of a volume or of its only frame."""
    return _shape(shape[:-1]) if len(shape) > 3 and shape[-1] == 1 else shape


def _geometry(path: Path, image: Any) -> Geometry:
    shape, header = _shape(image.shape), image.header
    if len(shape) not in (2, 3):
        raise too_deep(path, shape)
    mm = _MM.get(int(header["xyzt_units"]) & 7, 1.0)
    spacing = tuple(mm * float(zoom) if 0 < zoom < np.inf else 1.0 for zoom in header.get_zooms()[: len(shape)])
    affine = None
    if header["sform_code"] > 0 or header["qform_code"] > 0:
        affine = np.diag([mm, mm, mm, 1.0]) @ image.affine
        if len(shape) == 3 and not _invertible(affine):
            raise InputError("has an affine that cannot be inverted", path, "export it again with its orientation")
    return Geometry(shape=shape[::-1], spacing=spacing[::-1], unit="mm", affine=affine)


def _invertible(affine: NDArray[np.float64]) -> bool:
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.isfinite(affine).all() and lengths.all() and abs(np.linalg.det(affine[:3, :3] / lengths)) > 1e-6)


def _values(image: Any) -> Pixels:
    """(k, j, i). Not `get_fdata`: three to four times slower, and always float64."""
    array, slope, inter = image.dataobj.get_unscaled(), image.dataobj.slope, image.dataobj.inter
    if (slope, inter) != (1, 0):
        array = np.multiply(array, slope, dtype=np.float64 if array.dtype.itemsize > 4 else np.float32)
        array += inter
    return np.ascontiguousarray(array.reshape(_shape(image.shape), order="F").T)


def write_nifti(path: Path, labels: Labels, source: Path | None, geometry: Geometry) -> None:
    known = source is not None and suffix_of(source) in NIFTI_SUFFIXES
    header = _header_of(source, labels) if source and known else _new_header(labels, geometry)
    with atomic_path(path) as temporary, Opener(temporary, "wb") as stream:
        header.write_to(stream)
        stream.write(labels.tobytes())  # (k, j, i) in C order is (i, j, k) in Fortran order


def _header_of(source: Path, labels: Labels) -> Any:
    """The source's own bytes, less what told of its intensities; unchecked, so that nibabel mends nothing."""
    with reading(source), Opener(source) as stream:
        header = type(nib.load(source).header).from_fileobj(stream, check=False)
    if _shape(header.get_data_shape())[::-1] != labels.shape:
        raise InputError("is no longer the image that this mask was made for", source, "predict it again")
    header.extensions.clear()
    header.set_data_dtype(np.uint8)
    header["scl_slope"] = 1
    for field in (
        "vox_offset",
        "scl_inter",
        "cal_min",
        "cal_max",
        "intent_code",
        "intent_p1",
        "intent_p2",
        "intent_p3",
    ):
        header[field] = 0
    for field in ("intent_name", "aux_file"):
        header[field] = b""
    return header


def affine_of(geometry: Geometry) -> NDArray[np.float64]:
    """(4, 4), to RAS+. An image that knows no orientation lies as ITK lays pictures: columns to the patient's left,
    rows to posterior. As planes, too, it then stays as it lies.
    """
    x, y, z = (*geometry.spacing[::-1], 1.0)[:3]
    return np.diag([-x, -y, z, 1.0]) if geometry.affine is None else geometry.affine


def _new_header(labels: Labels, geometry: Geometry) -> Any:
    header = nib.Nifti1Image(labels.T, affine_of(geometry)).header
    header.set_zooms(geometry.spacing[::-1])
    header.set_xyzt_units("mm")
    return header

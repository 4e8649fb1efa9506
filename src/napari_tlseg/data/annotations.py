"""The painted annotations of a case, as planes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from napari_tlseg.data.case import Case, Dataset, Labels
from napari_tlseg.data.formats import read_geometry, read_labels, write_labels
from napari_tlseg.data.formats.nifti import affine_of
from napari_tlseg.data.formats.opened import DICOM_SUFFIX, NIFTI_SUFFIXES, TIFF_SUFFIXES, suffix_of
from napari_tlseg.data.geometry import Geometry
from napari_tlseg.errors import InputError
from napari_tlseg.options import Format

ENDINGS: Mapping[Format, tuple[str, ...]] = {"png": (".png",), "tiff": TIFF_SUFFIXES, "nifti": (".nii.gz", ".nii")}
"""Of each format; where the image has none of them, the mask has the first."""
ROUNDING = 1e-5
"""Relative: NIfTI holds an affine in 32 bits, TIFF a spacing as a fraction."""


def read_mask(case: Case, classes: int, path: Path | None = None) -> Labels:
    """(N, Y, X) classes of the case's mask, or of another file on the same grid."""
    path = path or case.mask
    if path is None:
        raise ValueError(f"case {case.name} has no mask")
    return case.geometry.to_planes(read_labels(path, case.geometry, classes, case.page_of(path)))


def read_roi(case: Case) -> Labels | None:
    """(N, Y, X), nonzero inside the region of interest, in any value but in a JPEG; None where the case has none."""
    if case.roi is None:
        return None
    blurred = case.roi.suffix.lower() in (".jpg", ".jpeg")
    return read_mask(case, 2 if blurred else 256, case.roi)


def mask_path(case: Case, folder: Path, format: Format = "auto") -> Path:
    """Where the mask of a case goes; InputError where that would be a volume as PNG.

    `auto`: a volume keeps its format, one in DICOM becomes NIfTI, a photograph PNG.
    """
    if format == "png" and len(case.geometry.shape) == 3 and case.geometry.shape[0] > 1:
        raise InputError("is a volume, which PNG cannot hold", case.image, "choose --format nifti or tiff")
    return folder / (case.name + _ending(case, format))


def _ending(case: Case, format: Format) -> str:
    own = suffix_of(case.image)
    if format != "auto":
        return own if own in ENDINGS[format] else ENDINGS[format][0]
    if own == DICOM_SUFFIX:
        return ".nii.gz" if len(case.geometry.shape) == 3 else ".png"
    return own if own in (*NIFTI_SUFFIXES, *TIFF_SUFFIXES) else ".png"


def write_mask(case: Case, planes: Labels, folder: Path, classes: int, format: Format = "auto") -> Path:
    """Write labels (N, Y, X) as the mask of a case, on the grid of its image."""
    path = mask_path(case, folder, format)
    write_labels(path, case.geometry.from_planes(planes), case.image, _geometry_in(path, case), classes)
    return path


def verify_mask(path: Path, case: Case, planes: Labels, classes: int) -> None:
    """Read a mask back: InputError unless it holds these labels (N, Y, X) and lies where the image does."""
    try:
        wrong = _misplaced(path, case)
        if not wrong and not np.array_equal(read_mask(case, classes, path), planes):
            wrong = "holds other labels than were written"
    except InputError as error:
        wrong = error.reason
    if wrong:
        raise InputError(
            f"is not to be trusted: read back, it {wrong}", path, "check the disk or choose another format"
        )


def _misplaced(path: Path, case: Case) -> str:
    """What a mask's file says wrongly of the grid: of NIfTI from NIfTI every bit counts, else not the rounding."""
    found, wanted, nifti = read_geometry(path), _geometry_in(path, case), suffix_of(path) in NIFTI_SUFFIXES
    off = 0.0 if nifti and suffix_of(case.image) in NIFTI_SUFFIXES else ROUNDING
    (sides, spacing), (wanted_sides, wanted_spacing) = _axes(found, nifti), _axes(wanted, nifti)
    if sides != wanted_sides:
        return f"is {' × '.join(map(str, found.shape))} pixels, its image {' × '.join(map(str, wanted.shape))}"
    if found.unit != wanted.unit or not _alike(spacing, wanted_spacing, off):
        return f"has the spacing {found.spacing} {found.unit}, its image {wanted.spacing} {wanted.unit}"
    if not _alike(found.affine, wanted.affine, off):
        return "has another affine than its image"
    return ""


def _alike(one: ArrayLike | None, other: ArrayLike | None, off: float) -> bool:
    if one is None or other is None:
        return one is other
    return bool(np.allclose(one, other, rtol=off, atol=off * off, equal_nan=True))


def _axes(geometry: Geometry, short: bool) -> tuple[list[int], list[float]]:
    """Sides and spacing; TIFF and PNG drop the `short` axes, of length one."""
    kept = [axis for axis, side in enumerate(geometry.shape) if short or side > 1]
    return [geometry.shape[axis] for axis in kept], [geometry.spacing[axis] for axis in kept]


def _geometry_in(path: Path, case: Case) -> Geometry:
    """What a mask's file can say of the grid of its case."""
    suffix, geometry = suffix_of(path), case.geometry
    if suffix in TIFF_SUFFIXES:
        return replace(geometry, affine=None)
    if suffix not in NIFTI_SUFFIXES:
        return Geometry(shape=geometry.shape, spacing=(1.0,) * len(geometry.shape))
    if geometry.affine is not None or suffix_of(case.image) in NIFTI_SUFFIXES:
        return geometry
    return replace(geometry, unit="mm", affine=affine_of(geometry))


def write_masks(dataset: Dataset, masks: Mapping[str, Labels], folder: Path) -> list[Path]:
    """Write the masks of several cases, by name, each (N, Y, X), or (Y, X) of a photograph."""
    if unknown := masks.keys() - {case.name for case in dataset}:
        known = f"its cases have names like {dataset.cases[0].name!r}"
        raise InputError(f"there is no case {min(unknown)!r}", dataset.folder, known)
    return [
        write_mask(dataset[name], labels.reshape(-1, *labels.shape[-2:]), folder, len(dataset.classes))
        for name, labels in masks.items()
    ]

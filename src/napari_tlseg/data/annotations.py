"""The painted annotations of a case, as planes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from napari_tlseg.data.case import Case, Dataset, Labels
from napari_tlseg.data.formats import read_labels, write_labels
from napari_tlseg.data.formats.opened import DICOM_SUFFIX, NIFTI_SUFFIXES, TIFF_SUFFIXES, suffix_of
from napari_tlseg.errors import InputError


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


def mask_path(case: Case, folder: Path) -> Path:
    """Where the mask of a case goes: a volume keeps its format, one in DICOM becomes NIfTI, a photograph PNG."""
    name = case.image.name.lower()
    suffix = next((suffix for suffix in (*NIFTI_SUFFIXES, *TIFF_SUFFIXES) if name.endswith(suffix)), ".png")
    if suffix_of(case.image) == DICOM_SUFFIX:
        suffix = ".nii.gz" if len(case.geometry.shape) == 3 else ".png"
    return folder / (case.name + suffix)


def write_mask(case: Case, planes: Labels, folder: Path, classes: int) -> Path:
    """Write labels (N, Y, X) as the mask of a case, on the grid of its image."""
    path = mask_path(case, folder)
    write_labels(path, case.geometry.from_planes(planes), case.image, case.geometry, classes)
    return path


def write_masks(dataset: Dataset, masks: Mapping[str, Labels], folder: Path) -> list[Path]:
    """Write the masks of several cases, by name, each (N, Y, X), or (Y, X) of a photograph."""
    if unknown := masks.keys() - {case.name for case in dataset}:
        known = f"its cases have names like {dataset.cases[0].name!r}"
        raise InputError(f"there is no case {min(unknown)!r}", dataset.folder, known)
    return [
        write_mask(dataset[name], labels.reshape(-1, *labels.shape[-2:]), folder, len(dataset.classes))
        for name, labels in masks.items()
    ]

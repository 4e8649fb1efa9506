"""PNG, JPEG, TIFF and NIfTI in and out, DICOM in: an array with its geometry, and labels back on the grid of a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from napari_tlseg.data.case import Image, Labels
from napari_tlseg.data.formats.dicom import open_dicom
from napari_tlseg.data.formats.masks import check_grid, to_grey, to_labels
from napari_tlseg.data.formats.nifti import open_nifti, write_nifti
from napari_tlseg.data.formats.opened import (
    DICOM_SUFFIX,
    IMAGE_SUFFIXES,
    NIFTI_SUFFIXES,
    TIFF_SUFFIXES,
    Opened,
    plain,
    reading,
    suffix_of,
)
from napari_tlseg.data.formats.picture import open_picture, write_picture
from napari_tlseg.data.formats.tiff import count_tiff_pages, open_tiff, write_tiff
from napari_tlseg.data.geometry import Geometry
from napari_tlseg.errors import InputError

__all__ = ["IMAGE_SUFFIXES", "case_name", "count_pages", "read_geometry", "read_image", "read_labels", "write_labels"]


def case_name(path: Path) -> str:
    """The file name without its ending; of a folder, its name.

    >>> case_name(Path("images/a.b.nii.gz"))
    'a.b'
    """
    ending = next((suffix for suffix in (*IMAGE_SUFFIXES, DICOM_SUFFIX) if path.name.lower().endswith(suffix)), "")
    return path.name[: len(path.name) - len(ending)]


def count_pages(path: Path) -> int:
    """How many images a TIFF holds one after the other; 1 for any other format."""
    return count_tiff_pages(path) if suffix_of(path) in TIFF_SUFFIXES else 1


def read_geometry(path: Path, page: int | None = None) -> Geometry:
    """Shape, spacing and affine, from the header alone; `page` counts from 0."""
    with _open(path, page) as file:
        return file.geometry


def read_image(path: Path, page: int | None = None) -> Image:
    """The pixels in the file's own values and type: alpha dropped, palette as RGB, 1-bit as 0/255, never rotated.

    A stack of TIFF pages is a volume unless `page` asks for one of them. Scaled NIfTI integers become float32.
    """
    with _open(path, page) as file:
        values = plain(path, file.values())
        return Image(values if file.palette is None else file.palette[values], file.geometry, path)


def read_labels(path: Path, like: Geometry, classes: int, page: int | None = None) -> Labels:
    """The mask of an image with geometry `like`, as 0 … `classes` - 1 on the stored grid.

    Of a palette the indices are the labels; a mask of 0 and 255 alone is 0/1; a JPEG of two classes is thresholded.
    """
    with _open(path, page) as file:
        check_grid(path, file.geometry, like)
        values = plain(path, file.values())
        grey = to_grey(path, values) if values.ndim > len(file.geometry.shape) else values
        return to_labels(path, grey.reshape(like.shape), classes, file.lossy)


def write_labels(path: Path, labels: Labels, source: Path | None, geometry: Geometry, classes: int) -> None:
    """Write a mask on the grid of `source`, the image with this geometry, in the format that `path` names.

    Where there is no such file, the geometry alone says how the mask lies.

    NIfTI from NIfTI keeps every header field that says where the voxels lie, bit for bit. TIFF keeps resolution and
    spacing. PNG holds two classes as 0/255, more as they are.
    """
    if labels.shape != geometry.shape or labels.max(initial=0) >= classes:
        raise ValueError(f"labels {labels.shape} up to {labels.max(initial=0)} for {geometry.shape}, {classes} classes")
    suffix, labels = suffix_of(path), np.ascontiguousarray(labels, dtype=np.uint8)
    if suffix in NIFTI_SUFFIXES:
        write_nifti(path, labels, source, geometry)
    elif suffix in TIFF_SUFFIXES:
        write_tiff(path, labels, source, geometry)
    elif suffix == DICOM_SUFFIX:
        raise InputError("would be a mask in DICOM, which is only read", path, "write a .nii.gz")
    else:
        write_picture(path, labels, classes)


@contextmanager
def _open(path: Path, page: int | None) -> Iterator[Opened]:
    suffix = suffix_of(path)
    if page and suffix not in TIFF_SUFFIXES:
        raise InputError(f"has no page {page}", path, "only TIFF files have pages")
    with reading(path):
        if suffix in TIFF_SUFFIXES:
            opened = open_tiff(path, page)
        elif suffix == DICOM_SUFFIX:
            opened = open_dicom(path)
        else:
            opened = open_nifti(path) if suffix in NIFTI_SUFFIXES else open_picture(path)
        with opened as file:
            if 0 in file.geometry.shape:
                raise InputError("holds no pixels", path, "export it again")
            yield file

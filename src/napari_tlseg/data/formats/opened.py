"""What every format gives when it is opened, and what becomes of a decoder's complaint."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_tlseg.data.geometry import Geometry
from napari_tlseg.errors import InputError

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
TIFF_SUFFIXES = (".tif", ".tiff")
NIFTI_SUFFIXES = (".nii", ".nii.gz")
IMAGE_SUFFIXES = (*PICTURE_SUFFIXES, *TIFF_SUFFIXES, *NIFTI_SUFFIXES)
"""Of a file that is one case. DICOM is not among them: a folder of such files is a case."""
DICOM_SUFFIX = ".dcm"

Pixels = NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Opened:
    """An open file: its geometry, from the header alone, and its pixels when they are asked for."""

    geometry: Geometry
    values: Callable[[], Pixels]
    """Reads the array as stored, channels last and without alpha; of a palette image its indices."""
    palette: NDArray[np.uint8] | None = None
    """(K, 3) RGB."""
    lossy: bool = False
    """JPEG: values may be a little off."""


def suffix_of(path: Path) -> str:
    """The one of `IMAGE_SUFFIXES` that a file has, in lower case, or that of DICOM; a folder is one of DICOM files."""
    if path.is_dir():
        return DICOM_SUFFIX
    for suffix in (*IMAGE_SUFFIXES, DICOM_SUFFIX):
        if path.name.lower().endswith(suffix):
            return suffix
    raise InputError("is of a kind that cannot be used", path, "use one of " + " ".join(IMAGE_SUFFIXES))


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """The one place where a decoder's complaint becomes a sentence; warnings and log records of libraries end here.

    Of log records the errors count: tifffile logs that the file is cut off, and reads on with fewer pages.
    """
    if not path.exists():
        raise InputError("does not exist", path, "check the name")
    complaints: list[str] = []

    def hold(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            complaints.append(record.getMessage())
        return False

    with _filtered(hold), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except InputError:
            raise
        except Exception as error:
            raise _unreadable(path, str(error) or type(error).__name__) from error
    if complaints:
        raise _unreadable(path, complaints[0])


@contextmanager
def _filtered(hold: Callable[[logging.LogRecord], bool]) -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("tifffile", "nibabel.global")]
    for logger in loggers:
        logger.addFilter(hold)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(hold)


def _unreadable(path: Path, why: str) -> InputError:
    return InputError(f"cannot be read ({' '.join(why.split())})", path, "copy or export the file again")


def too_deep(path: Path, shape: tuple[int, ...]) -> InputError:
    reason = f"has {len(shape)} dimensions ({' × '.join(map(str, shape))})"
    return InputError(reason, path, "export one image or one 3-D volume per file")


def check_type(path: Path, dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "buif":
        kind = "complex" if dtype.kind == "c" else "coloured"
        raise InputError(f"has {kind} voxels ({dtype})", path, "export it with one real number per voxel")


def plain(path: Path, array: Pixels) -> Pixels:
    """Native bytes, at most 64 bits, 1-bit as 0/255; NaN and infinity are refused."""
    if array.dtype == bool:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise InputError("holds values that are not finite (NaN or infinity)", path, "replace them by a number")
        return array.astype(f"f{min(max(array.itemsize, 4), 8)}", copy=False)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def first_channels(array: Pixels, count: int) -> Pixels:
    """The first channels of an array with channels last; a single one loses its axis."""
    return np.ascontiguousarray(array[..., 0] if count == 1 else array[..., :count])

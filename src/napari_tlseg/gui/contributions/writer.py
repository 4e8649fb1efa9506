"""Labels layers saved as NIfTI, TIFF or PNG on the grid of the image that they belong to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_tlseg.data.formats import write_labels
from napari_tlseg.data.formats.opened import DICOM_SUFFIX, IMAGE_SUFFIXES
from napari_tlseg.errors import InputError
from napari_tlseg.gui.canvas.layers import stored


def write_nifti(path: str, data: Any, about: dict[str, Any]) -> list[str]:
    """Also what the ending says instead; a name without one becomes a .nii.gz."""
    return _write(path, ".nii.gz", data, about)


def write_tiff(path: str, data: Any, about: dict[str, Any]) -> list[str]:
    return _write(path, ".tif", data, about)


def write_png(path: str, data: Any, about: dict[str, Any]) -> list[str]:
    return _write(path, ".png", data, about)


def _write(path: str, ending: str, data: Any, about: dict[str, Any]) -> list[str]:
    """Write a Labels layer, its labels as they are numbered."""
    target, mask = _target(path, ending), stored((data, about, "labels"))
    if mask.source and target.exists() and target.samefile(mask.source):
        raise InputError("is the image itself, which the mask would replace", target, "choose another name")
    write_labels(target, mask.labels, mask.source, mask.geometry, 256)
    return [str(target)]


def _target(path: str, ending: str) -> Path:
    """The file meant; the dialog asks before it replaces one, but only under the name as it was typed."""
    if path.lower().endswith((*IMAGE_SUFFIXES, DICOM_SUFFIX)):
        return Path(path)
    target = Path(path + ending)
    if target.exists():
        raise InputError("exists already", target, "give its full name to replace it")
    return target

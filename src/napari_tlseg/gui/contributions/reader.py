"""What napari opens through us: NIfTI, and DICOM, of which a folder is a series."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from napari_tlseg.data.formats.dicom import holds_dicom
from napari_tlseg.data.formats.opened import DICOM_SUFFIX, NIFTI_SUFFIXES
from napari_tlseg.gui.canvas.layers import LayerData, image_layer


def get_reader(path: str | Sequence[str]) -> Callable[[str], list[LayerData]] | None:
    """The reader of a file or folder; None where it is nothing of ours, or several files to be stacked."""
    if not isinstance(path, str):
        return None
    target = Path(path)
    ours = holds_dicom(target) if target.is_dir() else target.name.lower().endswith((*NIFTI_SUFFIXES, DICOM_SUFFIX))
    return _read if ours else None


def _read(path: str) -> list[LayerData]:
    """As an image, also what may be a mask: napari's `layer_type="labels"` says otherwise."""
    return [image_layer(Path(path))]

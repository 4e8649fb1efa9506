"""Whole dataset folders of phantoms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

from napari_tlseg.data.files import atomic_path, write_text
from napari_tlseg.data.formats import write_labels
from napari_tlseg.data.geometry import Geometry
from napari_tlseg.data.phantoms.chest import ChestPhantom, chest_ct
from napari_tlseg.data.phantoms.frame import Centre, Eye
from napari_tlseg.data.phantoms.fundus import fundus
from napari_tlseg.data.tables import write_clicks, write_rows


def write_fundus(
    folder: Path,
    count: int,
    masks: int | None = None,
    seed: int = 0,
    size: int = 512,
    *,
    centre: Centre | None = None,
    cup: bool = False,
) -> None:
    """Photographs with a click each, of which the first `masks` (all, if not said) have a mask.

    Every other patient has photographs of both eyes; patients.csv says whose is which.
    """
    classes = ("background", "disc", "cup") if cup else ("background", "disc")
    clicks, patients = {}, []
    for index in range(count):
        patient, eye = _whose(index)
        phantom = fundus((seed, index), size, eye=eye, centre=centre, cup=cup)
        image = folder / "images" / f"case_{index:03}.png"
        with atomic_path(image) as path:
            Image.fromarray(phantom.image).save(path)
        if masks is None or index < masks:
            geometry = Geometry(shape=phantom.mask.shape, spacing=(1.0, 1.0))
            write_labels(folder / "masks" / image.name, phantom.mask, image, geometry, len(classes))
        clicks[image.name] = tuple(round(place, 2) for place in phantom.click)
        patients.append((image.name, patient))
    write_clicks(folder, clicks)
    write_rows(folder / "patients.csv", ("image", "patient"), patients)
    _write_settings(folder, "fundus", classes)


def write_chest(
    folder: Path,
    count: int,
    seed: int = 0,
    *,
    shape: tuple[int, int, int] = (48, 128, 128),
    spacing: tuple[float, float, float] = (5.0, 3.0, 3.0),
) -> None:
    """CT volumes with masks of lung and infection; the first lung is infected, of the others most are."""
    classes = ("background", "lung", "infection")
    for index in range(count):
        phantom = chest_ct((seed, index), shape, spacing, extent=None if index else 0.6)
        image = folder / "images" / f"case_{index:03}.nii.gz"
        _write_nifti(image, phantom)
        write_labels(folder / "masks" / image.name, phantom.mask, image, phantom.geometry, len(classes))
    _write_settings(folder, "ct", classes)


def _whose(index: int) -> tuple[str, Eye | None]:
    """Every first patient has a photograph of the right and the left eye, every second one of either."""
    pair, place = divmod(index, 3)
    eyes: tuple[Eye | None, ...] = ("right", "left", None)
    return f"patient_{2 * pair + place // 2:03}", eyes[place]


def _write_nifti(target: Path, phantom: ChestPhantom) -> None:
    image = nib.Nifti1Image(np.ascontiguousarray(phantom.image.T), phantom.affine)
    image.set_sform(phantom.affine, code="scanner")
    image.set_qform(phantom.affine, code="scanner")
    image.header.set_xyzt_units("mm")
    with atomic_path(target) as path:
        nib.save(image, path)


def _write_settings(folder: Path, modality: str, classes: Sequence[str]) -> None:
    names = ", ".join(f'"{name}"' for name in classes)
    write_text(folder / "dataset.toml", f'modality = "{modality}"\nclasses = [{names}]\n')

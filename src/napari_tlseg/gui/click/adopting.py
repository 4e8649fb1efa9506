"""Open layers as a dataset: what napari shows, written as files that a job can read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import tifffile
from napari.layers import Image, Labels, Layer, Points
from numpy.typing import NDArray
from PIL import Image as Picture

from napari_tlseg.data.annotations import write_mask
from napari_tlseg.data.case import Case
from napari_tlseg.data.files import atomic_path, write_text
from napari_tlseg.data.folder import MAX_CLASSES, read_dataset
from napari_tlseg.data.formats.opened import suffix_of
from napari_tlseg.data.project import link, new_project
from napari_tlseg.data.tables import nfc, write_clicks, write_painted
from napari_tlseg.errors import InputError
from napari_tlseg.gui.canvas.layers import LayerData, case_of, grid_of

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
HU = -500
"""A grey stack that reaches below is a CT."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """An image that is open, and what lies on it; plain data, for another thread."""

    image: LayerData
    labels: tuple[NDArray[Any], ...] = ()
    """Each (Y, X) or (N, Y, X), as the image."""
    points: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    """(K, 2) yx or (K, 3) nyx, pixels of the image."""

    @property
    def name(self) -> str:
        return str(self.image[1]["name"])

    @property
    def grid(self) -> tuple[int, ...]:
        return _grid(self.image)

    @property
    def volume(self) -> bool:
        """Whether the planes of a stack are slices of one body, and not photographs."""
        case = case_of(self.image)
        if case is not None:
            return len(case.geometry.shape) == 3
        if self.image[1].get("rgb") or len(self.grid) != 3:
            return False
        return grid_of(self.image).unit == "mm" or bool(np.asarray(self.image[0]).min() < HU)


def gather(layers: Sequence[Layer]) -> list[Found]:
    """The images among the layers, each with the labels and points on it: those above it, up to the next such image."""
    images = [layer for layer in layers if isinstance(layer, Image) and not layer.multiscale]
    images = [layer for layer in images if layer.ndim in (2, 3)]
    found = {id(layer): Found(image=_plain(layer)) for layer in images}
    for layer in layers:
        below = _image_of(layer, layers, images)
        if below is None:
            continue
        of = found[id(below)]
        if isinstance(layer, Labels):
            found[id(below)] = replace(of, labels=(*of.labels, np.array(layer.data)))
        elif len(layer.data):
            points = np.array([below.world_to_data(layer.data_to_world(point)) for point in layer.data], float)
            found[id(below)] = replace(of, points=np.concatenate([of.points.reshape(-1, points.shape[1]), points]))
    return list(found.values())


def adopt_layers(layers: Sequence[Found], project: Path) -> Path:
    """Write the layers into an empty folder: images/, and what labels and points say of them as masks/ and clicks.csv.

    An RGB photograph (Y, X, 3) or a grey one (Y, X) is a case, a stack (N, Y, X[, 3]) is N cases, a volume is one: an
    image of ours in mm, or a grey stack with a unit of length or in HU.
    """
    top = max((int(labels.max(initial=0)) for found in layers for labels in found.labels), default=0)
    if top >= MAX_CLASSES or any(labels.min(initial=0) < 0 for found in layers for labels in found.labels):
        raise InputError("a layer of labels numbers objects, not classes", remedy="number its classes from 1")
    with new_project(project):
        names: list[list[str]] = []
        for found in layers:
            names.append(_write_image(found, project / "images", {name for each in names for name in each}))
        if top > 1:
            classes = ", ".join(f'"class {number}"' for number in range(1, top + 1))
            write_text(project / "dataset.toml", f'classes = ["background", {classes}]\n')
        dataset = read_dataset(project)
        cases = [[dataset[nfc(name)] for name in each] for each in names]
        _write_masks(layers, cases, project, max(top, 1) + 1)
        clicks = [_clicks(found, each) for found, each in zip(layers, cases, strict=True)]
        if any(clicks):
            write_clicks(project, {key: point for each in clicks for key, point in each.items()})
    return project


def _plain(layer: Layer) -> LayerData:
    data, about, kind = layer.as_layer_data_tuple()
    return data, dict(about), kind


def _image_of(layer: Layer, layers: Sequence[Layer], images: Sequence[Image]) -> Image | None:
    """The image that labels or points belong to: the nearest beneath them that they fit, else above."""
    if isinstance(layer, Labels):
        fits = [image for image in images if _grid(_plain(image)) == layer.data.shape]
    elif isinstance(layer, Points):
        fits = [image for image in images if image.ndim == layer.ndim]
    else:
        return None
    places = {id(each): place for place, each in enumerate(layers)}
    here = places[id(layer)]
    return min(fits, key=lambda image: ((d := here - places[id(image)]) < 0, abs(d)), default=None)


def _write_image(found: Found, folder: Path, taken: set[str]) -> list[str]:
    """Names of the cases that it becomes."""
    case, data = case_of(found.image), np.asarray(found.image[0])
    folder.mkdir(exist_ok=True)
    if case is not None and case.page is None and not case.further and case.image.exists():
        stem = _free(case.name, taken)
        link(case.image, folder / (stem + ("" if case.image.is_dir() else suffix_of(case.image))))
        return [stem]
    stem = _free(re.sub(r"[^\w.-]+", "_", found.name).strip("._") or "image", taken)
    if found.volume:
        _write_volume(folder / f"{stem}.nii.gz", data, grid_of(found.image).spacing)
        return [stem]
    if len(found.grid) == 2:
        _write_plane(folder, stem, data)
        return [stem]
    stems = [_free(f"{stem}-{index:03}", taken) for index in range(len(data))]
    for each, plane in zip(stems, data, strict=True):
        _write_plane(folder, each, plane)
    return stems


def _write_plane(folder: Path, stem: str, plane: NDArray[Any]) -> None:
    if plane.ndim == 3:
        plane = plane[..., :3]
    if plane.ndim == 3 and plane.dtype.kind == "f":  # napari shows colours from 0 to 1
        plane = (np.clip(plane, 0, 1) * 255).round().astype(np.uint8)
    if plane.dtype == np.uint8:
        with atomic_path(folder / f"{stem}.png") as path:
            Picture.fromarray(plane).save(path)
    else:
        with atomic_path(folder / f"{stem}.tif") as path:
            tifffile.imwrite(path, _common(plane))


def _write_volume(target: Path, data: NDArray[Any], spacing: Sequence[float]) -> None:
    """Axial planes (N, Y, X), as napari shows them, to NIfTI: rows to posterior, columns to left, N to superior."""
    affine = LPS_TO_RAS @ np.diag([*spacing[::-1], 1.0])
    image = nib.Nifti1Image(np.ascontiguousarray(_common(data)).T, affine)
    image.header.set_xyzt_units("mm")
    with atomic_path(target) as path:
        nib.save(image, path)


def _common(data: NDArray[Any]) -> NDArray[Any]:
    """In a type that every format and its readers know."""
    if data.dtype.kind == "b":
        return data.astype(np.uint8)
    if data.dtype.kind == "f":
        return data.astype(np.float32, copy=False)
    return data.astype(np.int32) if data.dtype.itemsize > 4 else data


def _write_masks(layers: Iterable[Found], cases: Iterable[Sequence[Case]], project: Path, classes: int) -> None:
    """A plane with something in it is a mask, or of a volume a slice that counts as fully painted."""
    painted: dict[str, list[int]] = {}
    for found, those in zip(layers, cases, strict=True):
        for case, labels in _masks(found, those):
            write_mask(case, labels, project / "masks", classes)
            planes = np.flatnonzero(labels.any(axis=(1, 2)))
            if found.volume and len(planes) < len(labels):
                painted[case.key] = [case.geometry.stored_plane(int(plane)) for plane in planes]
    if painted:
        write_painted(project, painted)


def _masks(found: Found, cases: Sequence[Case]) -> Iterable[tuple[Case, NDArray[np.uint8]]]:
    """Labels (N, Y, X) of each case that has some; where several layers do, the first that is not 0 counts."""
    together = np.zeros(found.grid, np.uint8)
    for labels in found.labels:
        np.copyto(together, labels.astype(np.uint8), where=together == 0)
    planes = [together] if len(cases) == 1 else list(together)
    shaped = [(case, plane.reshape(case.geometry.plane_shape)) for case, plane in zip(cases, planes, strict=True)]
    return [(case, labels) for case, labels in shaped if labels.any()]


def _clicks(found: Found, cases: Sequence[Case]) -> dict[str, tuple[float, ...]]:
    """The first point in each case, by its key."""
    clicks: dict[str, tuple[float, ...]] = {}
    for point in found.points:
        if not ((point >= -0.5) & (point <= np.array(found.grid) - 0.5)).all():
            continue
        plane, y, x = [0.0, *map(float, point)][-3:]
        case = cases[0 if len(cases) == 1 else round(plane)]
        clicks.setdefault(case.key, case.geometry.point_from_planes(round(plane), y, x))
    return clicks


def _grid(image: LayerData) -> tuple[int, ...]:
    """(Y, X) or (N, Y, X)."""
    shape: tuple[int, ...] = image[0].shape
    return shape[:-1] if image[1].get("rgb") else shape


def _free(stem: str, taken: set[str]) -> str:
    """A name that is not taken, and is now."""
    names = (stem if number == 1 else f"{stem}-{number}" for number in range(1, 100_000))
    found = next(name for name in names if name not in taken)
    taken.add(found)
    return found

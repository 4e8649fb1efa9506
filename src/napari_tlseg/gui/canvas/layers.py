"""The only place that reads and writes layer data and transforms.

A volume is shown as axial planes (N, Y, X), upright, in mm. The world of the viewer is then the patient's: the axes run
towards superior, posterior and left, as (z, y, x) in DICOM, and two scans of one patient lie over each other. A volume
that was cut obliquely is shown along its own slices, as napari would not resample it: the middle of it is where it
belongs. What is needed to write a mask of it, its `Case`, travels in the layer's metadata.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import napari
import nibabel as nib
import numpy as np
import pint
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from napari_tlseg.data.case import Case, Image, Labels
from napari_tlseg.data.formats import case_name, read_image
from napari_tlseg.data.geometry import Geometry
from napari_tlseg.data.images import image_of
from napari_tlseg.errors import InputError

if TYPE_CHECKING:
    from napari.layers import Layer

LayerData = tuple[Any, dict[str, Any], str]
"""What napari makes a layer of: data, keyword arguments, the kind."""

CASE = "case"
"""Where a layer's metadata hold its `Case`."""
LUNG_WINDOW = (-1000.0, 400.0)
"""HU."""
_PLACE = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")


@dataclass(frozen=True, kw_only=True, eq=False)
class Stored:
    """The labels of a layer on the grid of its image."""

    labels: Labels
    geometry: Geometry
    source: Path | None
    """The image's file, where there is one."""


def image_layer(source: Case | Path) -> LayerData:
    """An Image layer of a case, a file, or a folder with a DICOM series."""
    if isinstance(source, Case):
        case, image = source, image_of(source)
    else:
        image = read_image(source)
        case = Case(name=case_name(source), image=source, geometry=image.geometry)
    planes = image.geometry.to_planes(image.array)
    data = planes if len(image.geometry.shape) == 3 else planes[0]
    about = {"name": case.name, "metadata": {CASE: case}}
    return data, {**about, **placement(image.geometry), **_look(image)}, "image"


def labels_layer(planes: NDArray[Any], like: Layer | LayerData, name: str = "mask") -> LayerData:
    """A Labels layer of (N, Y, X) classes that lies on an image's layer, of which it knows the case."""
    return (*_laid_on(planes.astype(np.uint8, copy=False), like, name), "labels")


def map_layer(planes: NDArray[Any], like: Layer | LayerData, name: str) -> LayerData:
    """An Image layer of numbers (N, Y, X), one per pixel, that lies on an image's layer."""
    return (*_laid_on(planes, like, name), "image")


def _laid_on(planes: NDArray[Any], like: Layer | LayerData, name: str) -> tuple[NDArray[Any], dict[str, Any]]:
    """A copy in the shape of an image's layer, and where that lies."""
    data, about, _ = _as_data(like)
    kept = {key: about[key] for key in _PLACE if key in about} | {"metadata": dict(about.get("metadata", {}))}
    shape = data.shape[:-1] if about.get("rgb") else data.shape
    return np.array(planes).reshape(shape), {"name": name, **kept}


def plane_of(layer: Layer, plane: int) -> LayerData:
    """One plane of a volume's layer, where it lies; a photograph as it is."""
    data, about, kind = _as_data(layer)
    if layer.ndim == 2:
        return data, about, kind
    translate = np.array(about["translate"], float)
    translate[0] += plane * about["scale"][0]
    return data[plane : plane + 1], {**about, "translate": tuple(translate)}, kind


def case_of(layer: Layer | LayerData) -> Case | None:
    """The case that a layer shows, where one of ours or a copy of it."""
    case = _as_data(layer)[1].get("metadata", {}).get(CASE)
    return case if isinstance(case, Case) else None


def stored(layer: Layer | LayerData) -> Stored:
    """The labels of a layer as they are to be written: on the grid of its case, or of the image that it lies on.

    Without either the grid is that of the layer, with its own scale as spacing.
    """
    data, about, _ = _as_data(layer)
    labels = _small(np.asarray(data[0] if about.get("multiscale") else data), about.get("name", "labels"))
    case = case_of((data, about, "labels")) or _case_below(labels.shape, about)
    if case is None:
        return Stored(labels=labels, geometry=_own_geometry(labels.shape, about), source=None)
    shape = case.geometry.plane_shape[-len(case.geometry.shape) :]
    if labels.shape != shape:
        here, there = (" × ".join(map(str, sides)) for sides in (labels.shape, shape))
        reason = f"the layer '{about.get('name')}' is {here} pixels, but its image {case.image.name} is {there}"
        raise InputError(reason, remedy="draw on a layer as large as the image")
    planes = labels.reshape(case.geometry.plane_shape)
    source = case.image if case.image.exists() else None
    return Stored(labels=case.geometry.from_planes(planes), geometry=case.geometry, source=source)


def grid_of(layer: Layer) -> Geometry:
    """The grid of a layer of the user's, from its scale and units alone."""
    data, about, _ = _as_data(layer)
    return _own_geometry(data.shape[:-1] if about.get("rgb") else data.shape, about)


def placement(geometry: Geometry) -> dict[str, Any]:
    """`scale`, `translate` and `units` of a layer that shows the planes of a volume, or an image."""
    scale = np.array(geometry.plane_spacing)
    units = ("mm" if geometry.unit == "mm" else "pixel",) * len(scale)
    translate = np.zeros(len(scale))
    if geometry.affine is not None and len(scale) == 3:
        translate = _middle(geometry, geometry.affine) - scale * (np.array(geometry.plane_shape) - 1) / 2
    return {"scale": tuple(scale), "translate": tuple(translate), "units": units}


def _middle(geometry: Geometry, affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where the middle of a volume lies in the body, along its plane axes, mm."""

    def place(plane: int, y: int, x: int) -> NDArray[np.float64]:
        position: NDArray[np.float64] = apply_affine(affine, geometry.point_from_planes(plane, y, x)[::-1])
        return position

    planes_to_ras = np.eye(4)
    corner = place(0, 0, 0)
    planes_to_ras[:3, :3] = np.column_stack([place(1, 0, 0), place(0, 1, 0), place(0, 0, 1)]) - corner[:, None]
    axes, signs = nib.io_orientation(planes_to_ras).T
    middle: NDArray[np.float64] = apply_affine(affine, (np.array(geometry.shape)[::-1] - 1) / 2)
    along: NDArray[np.float64] = signs * middle[axes.astype(int)]
    return along


def _look(image: Image) -> dict[str, Any]:
    """Colours as colours, a CT from air to soft tissue; the rest is napari's to choose."""
    if image.array.ndim > len(image.geometry.shape):
        return {"rgb": True} if image.coloured else {"channel_axis": image.array.ndim - 1}
    if image.geometry.unit == "mm" and image.array.dtype.kind in "if" and image.array.min() < -500:
        return {"contrast_limits": LUNG_WINDOW}
    return {}


def _as_data(layer: Layer | LayerData) -> LayerData:
    if isinstance(layer, tuple):
        return layer
    data, about, kind = layer.as_layer_data_tuple()
    return data, dict(about), kind


def _small(labels: NDArray[Any], name: str) -> Labels:
    if labels.ndim not in (2, 3):
        reason = f"the layer '{name}' has {labels.ndim} dimensions, a mask has two or three"
        raise InputError(reason, remedy="save one volume at a time")
    low, high = labels.min(initial=0), labels.max(initial=0)
    if low < 0 or high > 255:
        reason = f"the layer '{name}' holds the label {low if low < 0 else high}, a mask file holds 0 to 255"
        raise InputError(reason, remedy="number its labels anew, class by class")
    return labels.astype(np.uint8)


def _case_below(shape: tuple[int, ...], about: dict[str, Any]) -> Case | None:
    """The case of the topmost image that lies exactly where these labels lie."""
    viewer = napari.current_viewer()
    for layer in reversed(viewer.layers if viewer else []):
        case = case_of(layer)
        if (
            case
            and case.geometry.plane_shape[-len(case.geometry.shape) :] == shape
            and all(np.allclose(getattr(layer, key), about.get(key, ())) for key in ("scale", "translate"))
        ):
            return case
    return None


def _own_geometry(shape: tuple[int, ...], about: dict[str, Any]) -> Geometry:
    """Lengths are turned to mm; a scale without a unit of length is taken for mm, as napari long knew no units."""
    scale = np.abs(about.get("scale", (1.0,) * len(shape)))
    lengths = [pint.application_registry.Quantity(1, unit) for unit in about.get("units", ())]
    if lengths and all(length.is_compatible_with("mm") for length in lengths):
        spacing = [float(side * length.to("mm").magnitude) for side, length in zip(scale, lengths, strict=True)]
        return Geometry(shape=shape, spacing=tuple(spacing), unit="mm")
    return Geometry(shape=shape, spacing=tuple(map(float, scale)), unit="px" if (scale == 1).all() else "mm")

"""TIFF: one image, a stack of pages that is a volume, or one page of many."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_tlseg.data.case import Labels
from napari_tlseg.data.files import atomic_path
from napari_tlseg.data.formats.opened import (
    TIFF_SUFFIXES,
    Opened,
    Pixels,
    check_type,
    first_channels,
    reading,
    suffix_of,
    too_deep,
)
from napari_tlseg.data.geometry import Geometry, Unit
from napari_tlseg.errors import InputError

_MM = {"mm": 1.0, "cm": 10.0, "m": 1e3, "nm": 1e-6, "inch": 25.4, "in": 25.4}
_MM |= dict.fromkeys(("µm", "μm", "um", "micron", "microns", "\\u00B5m"), 1e-3)


@contextmanager
def open_tiff(path: Path, page: int | None) -> Iterator[Opened]:
    with tifffile.TiffFile(path) as tif:
        part = _part(path, tif, page)
        check_type(path, part.dtype)
        order = _order(path, part.axes, part.shape)
        shape = tuple(part.shape[axis] for axis in order if not _is_channel(part.axes[axis], part.shape[axis]))
        spacing, unit = _spacing(tif, part.keyframe, len(shape))
        yield Opened(
            geometry=Geometry(shape=shape, spacing=spacing, unit=unit),
            values=lambda: _values(tif, part, order),
            palette=_palette(part.keyframe),
        )


def count_tiff_pages(path: Path) -> int:
    with reading(path), tifffile.TiffFile(path) as tif:
        return len(tif.pages)


def _part(path: Path, tif: tifffile.TiffFile, page: int | None) -> Any:
    """One page, or the series of all pages that make the image."""
    if page is not None:
        if not 0 <= page < len(tif.pages):
            raise InputError(f"has {len(tif.pages)} pages, so there is no page {page}", path, "count them from 0")
        return tif.pages[page]
    first, *others = tif.series
    others = [series for series in others if not series.keyframe.is_reduced]  # not its thumbnail
    if others:
        remedy = 'set pages = "cases" in dataset.toml, or save each as a file of its own'
        raise InputError(f"holds {1 + len(others)} separate images", path, remedy)
    return first


def _is_channel(name: str, length: int) -> bool:
    return name == "S" or (name == "C" and length <= 4)


def _order(path: Path, axes: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The stored axes as (Z, Y, X, channel), less those of length one; pages are Z, but channels of a composite."""
    rest = [axis for axis, name in enumerate(axes) if name not in "YX" and shape[axis] != 1]
    channels = [axis for axis in rest if _is_channel(axes[axis], shape[axis])]
    stack = [axis for axis in rest if axis not in channels]
    if len(stack) > 1 or len(channels) > 1:
        raise too_deep(path, shape)
    return (*stack, axes.index("Y"), axes.index("X"), *channels)


def _values(tif: tifffile.TiffFile, part: Any, order: tuple[int, ...]) -> Pixels:
    key = part.keyframe
    if key.compression != tifffile.COMPRESSION.NONE and _end(part) > tif.filehandle.size:
        raise EOFError("the file ends too early")  # else a JPEG strip that was cut off is half grey
    short = [axis for axis in range(len(part.shape)) if axis not in order]
    array = part.asarray().transpose(*order, *short).reshape([part.shape[axis] for axis in order])
    if part.axes[order[-1]] != "S":
        return np.ascontiguousarray(array)
    alpha = sum(int(extra) in (1, 2) for extra in key.extrasamples)  # associated, unassociated
    return first_channels(array, 3 if key.photometric == tifffile.PHOTOMETRIC.RGB else array.shape[-1] - alpha)


def _end(part: Any) -> int:
    """The first byte after the pixels, as the header has it."""
    pages = [page for page in part.pages if page is not None] if isinstance(part, tifffile.TiffPageSeries) else [part]
    pieces = (piece for page in pages for piece in zip(page.dataoffsets, page.databytecounts, strict=True))
    return max(int(offset + size) for offset, size in pieces)


def _palette(key: Any) -> NDArray[np.uint8] | None:
    if key.photometric != tifffile.PHOTOMETRIC.PALETTE:
        return None
    colours: NDArray[np.uint16] = key.colormap.T
    return (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)


def _spacing(tif: tifffile.TiffFile, key: Any, dimensions: int) -> tuple[tuple[float, ...], Unit]:
    """Millimetres per pixel where ImageJ, OME or pixels per centimetre say so; inches only say how large to print."""
    pixel = [1 / density if density > 0 else 0.0 for density in key.resolution[::-1]]
    zyx = [0.0, 0.0, 0.0]
    if tif.is_imagej:
        about = tif.imagej_metadata or {}
        unit = _MM.get(about.get("unit", ""), 0.0)
        zyx = [unit * length for length in (abs(about.get("spacing", 1.0)), *pixel)]
    elif tif.is_ome:
        zyx = _ome_spacing(tif.ome_metadata)
    elif key.resolutionunit == tifffile.RESUNIT.CENTIMETER:
        zyx = [0.0, *(10 * length for length in pixel)]
    spacing = tuple(zyx[-dimensions:])
    known = all(0 < length < np.inf for length in spacing)
    return (spacing, "mm") if known else ((1.0,) * dimensions, "px")


def _ome_spacing(xml: str) -> list[float]:
    pixels = ElementTree.fromstring(xml).find(".//{*}Pixels")
    about = {} if pixels is None else pixels.attrib
    sizes = [f"PhysicalSize{axis}" for axis in "ZYX"]
    return [float(about.get(size, 0)) * _MM.get(about.get(f"{size}Unit", "µm"), 0.0) for size in sizes]


def write_tiff(path: Path, labels: Labels, source: Path | None, geometry: Geometry) -> None:
    options = _spacing_options(source, geometry)
    with atomic_path(path) as temporary:
        tifffile.imwrite(temporary, labels, photometric="minisblack", compression="zlib", **options)


def _spacing_options(source: Path | None, geometry: Geometry) -> dict[str, Any]:
    """What `imwrite` is told of spacing: a volume as ImageJ has it, an image per cm, or the source's own words."""
    *depth, y, x = geometry.spacing
    if geometry.unit == "mm" and depth:
        about = {"axes": "ZYX", "spacing": depth[0], "unit": "mm"}
        return {"imagej": True, "resolution": (1 / x, 1 / y), "metadata": about}
    if geometry.unit == "mm":
        return {"resolution": (10 / x, 10 / y), "resolutionunit": "CENTIMETER", "metadata": None}
    unknown: dict[str, Any] = {"imagej": True, "metadata": {"axes": "ZYX"}} if depth else {"metadata": None}
    if source is None or suffix_of(source) not in TIFF_SUFFIXES:
        return unknown
    with reading(source), tifffile.TiffFile(source) as tif:
        page = tif.pages.first
        return unknown | {"resolution": page.resolution, "resolutionunit": page.resolutionunit}
